-- Jobs that wait for others go on whatever becomes of those, and users who retry wait for nobody with a cursor in hand.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

-- Copies what claims read of a planned job, and makes its cursor, which it has only from then on.
-- What a job waits for decides when it starts. Once it has started, a job that it waited for may be run again, or be cancelled then:
-- that must not close this one.
create or replace function mark_job(wanted bigint) returns void language plpgsql as $$
declare
    j record;
    c job_cursor;
    v_is_new boolean;
    v_open boolean := false;
    v_not_before timestamptz := '-infinity';
begin
    select id, tenant_id, state, held, priority, n_items, shard_items, round, model_key, allow_mixed, worker_labels, min_memory_bytes, dest, inputs,
        after, opens_at, closes_at, started_at, planned_at, max_failed_items is not null or max_gpu_ms is not null as limited,
        (select f.sha256 from fingerprint f where f.id = fingerprint_id) as fingerprint into j from job where id = wanted;
    if j.planned_at is null then
        return;
    end if;
    select * into c from job_cursor where job_id = wanted;
    v_is_new := not found;
    if j.state in ('ready', 'closing') and not j.held and (j.started_at is not null or not waits_for_jobs(j.after))
        and prefix_refusal(j.tenant_id, j.dest, j.inputs) is null then
        v_open := j.state = 'ready' and coalesce(c.next_item, 0) < j.n_items;
        if not v_open then
            select min(ready_at) into v_not_before from shard where job_id = wanted and state = 'waiting';
            v_open := v_not_before is not null;
        end if;
    end if;
    if v_is_new then
        insert into job_cursor (job_id, tenant_id, priority, open, limited, started, queued_at, not_before, opens_at, closes_at, n_items,
                shard_items, round, min_memory_bytes, model_key, pins, labels)
            values (j.id, j.tenant_id, j.priority, v_open, j.limited, false, case when v_open then clock() else '-infinity' end,
                coalesce(v_not_before, '-infinity'), case when j.state = 'closing' then '-infinity' else j.opens_at end,
                case when j.state = 'closing' then 'infinity' else j.closes_at end, j.n_items, j.shard_items, j.round, j.min_memory_bytes,
                j.model_key, not j.allow_mixed, j.worker_labels);
    else
        update job_cursor set tenant_id = j.tenant_id, priority = j.priority, open = v_open, limited = j.limited, started = j.started_at is not null,
            queued_at = case when v_open and not c.open then clock() else c.queued_at end, not_before = coalesce(v_not_before, '-infinity'),
            opens_at = case when j.state = 'closing' then '-infinity' else j.opens_at end,
            closes_at = case when j.state = 'closing' then 'infinity' else j.closes_at end,
            n_items = j.n_items, shard_items = j.shard_items, round = j.round, min_memory_bytes = j.min_memory_bytes,
            model_key = j.model_key, fingerprint = case when not j.allow_mixed then j.fingerprint end,
            pins = not j.allow_mixed and j.fingerprint is null, labels = j.worker_labels
            where job_id = wanted;
    end if;
    if v_open and not exists (select from lane where priority = j.priority and tenant_id = j.tenant_id) then
        insert into lane (priority, tenant_id) values (j.priority, j.tenant_id) on conflict do nothing;
    end if;
end $$;

-- A job without items is closing from the start, and waits all the same.
create or replace function free_dependents() returns void language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_job record;
    v_other record;
begin
    for v_job in select id, after from job where after <> '{}' and state in ('ready', 'paused', 'closing') and started_at is null order by id limit 1000 loop
        select id, state into v_other from job where id = any (v_job.after) and state in ('rejected', 'cancelled', 'failed') order by id limit 1;
        if found then
            perform from job_cursor where job_id = v_job.id for update skip locked;
            if found and exists (select from job where id = v_job.id and state in ('ready', 'paused', 'closing') and started_at is null) then
                perform stop_job(v_job.id, format('job %s, which it waits for, is %s', v_other.id, v_other.state));
            end if;
        elsif not waits_for_jobs(v_job.after) and not (select open from job_cursor where job_id = v_job.id) then
            perform from job_cursor where job_id = v_job.id for update skip locked;
            if found then
                perform mark_job(v_job.id);
            end if;
        end if;
    end loop;
end $$;

-- A report that comes late for one of its shards keeps that row locked until it ends, and may wait for the cursor of another job. So who
-- holds the cursor does not wait for the shards that run again, but gives it up and comes back.
create or replace function retry(job bigint, "only" text default 'failed') returns bigint
language plpgsql security definer set search_path = nightshift, pg_temp as $$
declare
    v_job job;
    v_refusal text;
    v_n bigint;
    v_shard shard;
    v_open boolean := false;
begin
    loop
        begin
            v_job := lock_own_job(retry.job);
            exit when not is_final(v_job.state);
            perform from shard where job_id = v_job.id and (kind = 'close' or n_failed > 0 or n_ok + n_failed + n_skipped < end_item - first_item)
                for update nowait;
            exit;
        exception when lock_not_available then
            perform pg_sleep(0.01);
        end;
    end loop;
    if "only" is null or ("only" <> 'failed' and "only" not like 'code:_%' and "only" !~ '^[0-9]{1,18}$') then
        perform refuse(format('retry cannot read only = %L', "only"), 'use ''failed'', ''code:<error code>'' or an item index');
    elsif v_job.state not in ('finished', 'finished_with_errors', 'failed', 'cancelled') then
        perform refuse(format('job %s is %s; only an ended job can be retried', v_job.id, v_job.state));
    elsif v_job.planned_at is null then
        perform refuse(format('job %s was cancelled before it was planned', v_job.id), 'submit its spec again');
    end if;
    v_n := take_back_items(v_job.id, "only");
    if v_n = 0 and (v_job.state in ('finished', 'finished_with_errors') or "only" <> 'failed') then
        perform refuse(format('job %s has no failed item that matches only = %L', v_job.id, "only"),
            format('select error_code, count(*) from nightshift.items where job_id = %s and status = ''failed'' group by 1', v_job.id));
    end if;
    -- Its own objects are there already: what `refuse` guards against was settled when the job was planned.
    v_refusal := take_destination(v_job.id, v_job.tenant_id, v_job.dest, 'refuse');
    if v_refusal is not null then
        perform refuse(format('job %s lost its destination. %s', v_job.id, v_refusal), 'submit its spec again');
    end if;
    delete from shard where job_id = v_job.id and kind = 'close';
    for v_shard in
        update shard set state = 'waiting', ready_at = clock(), finished_at = null, n_failed_attempts = 0, n_lost_attempts = 0
            where job_id = v_job.id and n_ok + n_failed + n_skipped < end_item - first_item returning *
    loop
        perform fold(v_shard, -1);
        v_open := true;
    end loop;
    v_open := v_open or exists (select from job_cursor where job_id = v_job.id and next_item < v_job.n_items);
    update job set state = (case when v_open then 'ready' else 'closing' end)::job_state, round = round + 1, finished_at = null,
        errors = null, stopping = null, owns_dest = true where id = v_job.id;
    perform note(v_job.tenant_id, v_job.id, null, null, 'retried', format('%s retries %s failed items', session_user, v_n));
    perform settle_job(v_job.id);
    perform pg_notify('nightshift_work', v_job.id::text);
    return v_n;
end $$;

-- Like a retry: who changes prefixes waits for cursors with others in hand, but not for long. Then all are given up, and taken again.
create or replace function mark_changed_tenant() returns trigger language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_job bigint;
begin
    loop
        begin
            perform set_config('lock_timeout', '250', true);
            for v_job in select id from job where tenant_id = new.id and state in ('ready', 'paused', 'closing', 'cancelling') order by id loop
                perform from job_cursor where job_id = v_job for update;
                perform mark_job(v_job);
            end loop;
            perform set_config('lock_timeout', '0', true);
            return null;
        exception when lock_not_available then
            perform pg_sleep(0.01);
        end;
    end loop;
end $$;

create or replace function versions(out protocol int, out protocol_oldest int, out schema int) language sql immutable parallel safe
    as $$ select 1, 1, 37 $$;

reset search_path;
reset role;
