-- What follows for a job when its shards or its state change. mark_job copies what claims read; settle_job moves a job on when nothing is left to do.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create or replace function check_move() returns trigger language plpgsql as $$
begin
    if not exists (select from nightshift.legal_move
            where noun = tg_argv[0] and from_state = old.state::text and to_state = new.state::text) then
        raise exception 'a % cannot go from % to %', tg_argv[0], old.state, new.state;
    end if;
    return new;
end $$;
comment on function check_move() is 'Trigger: refuses a move that legal_move does not list.';
create or replace trigger job_check_move before update of state on job for each row
    when (old.state is distinct from new.state) execute function check_move('job');

create or replace function check_shard() returns trigger language plpgsql as $$
begin
    if not exists (select from nightshift.legal_move
            where noun = 'shard' and from_state = old.state::text and to_state = new.state::text) then
        raise exception 'a shard cannot go from % to %', old.state, new.state;
    elsif (new.ready_at is not null) <> (new.state = 'waiting') or (new.leased_until is not null) <> (new.state = 'leased')
        or (new.finished_at is not null) <> (new.state in ('finished', 'dead', 'cancelled')) then
        raise exception 'the time stamps of a shard do not fit state %', new.state;
    elsif new.state = 'leased' and (new.worker_id is null or new.lease_ms <= 0 or new.attempt <= 0) then
        raise exception 'a leased shard has no holder';
    elsif new.kind = 'items' and new.n_ok + new.n_failed + new.n_skipped > new.end_item - new.first_item then
        raise exception 'a shard of % items counts %', new.end_item - new.first_item, new.n_ok + new.n_failed + new.n_skipped;
    end if;
    return new;
end $$;
comment on function check_shard() is 'Trigger: refuses a move that legal_move does not list, and a row that does not fit its new state.';
create or replace trigger shard_check_move before update of state on shard for each row
    when (old.state is distinct from new.state) execute function check_shard();

create or replace function refuse_pruned() returns trigger language plpgsql set search_path = nightshift, pg_temp as $$
begin
    perform refuse(format('there is no job %s', old.id), code => 'NSNOF');
    return null;
end $$;
comment on function refuse_pruned() is 'Trigger: a job that is being removed changes no more.';
create or replace trigger job_refuse_pruned before update on job for each row when (old.pruned) execute function refuse_pruned();

-- Adds a shard's counts to the job's when it ends, and takes them back when it waits again.
create or replace function fold(s shard, sign int) returns void language plpgsql as $$
begin
    update job_cursor set n_ok = n_ok + sign * s.n_ok, n_failed = n_failed + sign * s.n_failed, n_skipped = n_skipped + sign * s.n_skipped,
        gpu_ms = gpu_ms + sign * s.gpu_ms, unsettled_ms = unsettled_ms + sign * (s.gpu_ms - s.charged_ms)
    where job_id = s.job_id;
end $$;
comment on function fold(shard, int) is 'Job counters hold the counts of ended shards.';

create or replace function waits_for_jobs(after bigint[]) returns boolean language sql stable set search_path = nightshift, pg_temp as $$
    select $1 <> '{}' and exists (select from job where id = any ($1) and state not in ('finished', 'finished_with_errors'))
$$;
comment on function waits_for_jobs(bigint[]) is 'Whether one of these jobs has not finished.';

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
        and (prefix_refusal(j.tenant_id, j.dest, j.inputs)).message is null then
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
comment on function mark_job(bigint) is 'Brings a job''s cursor up to date with the job.';

create or replace function mark_changed_job() returns trigger language plpgsql set search_path = nightshift, pg_temp as $$
begin
    perform mark_job(new.id);
    return null;
end $$;
comment on function mark_changed_job() is 'Trigger: who changes a job holds its cursor, so it can be marked.';
create or replace trigger job_mark after update of state, held, priority, opens_at, closes_at, after on job for each row
    when (old.state is distinct from new.state or old.held is distinct from new.held or old.priority is distinct from new.priority
        or old.opens_at is distinct from new.opens_at or old.closes_at is distinct from new.closes_at or old.after is distinct from new.after)
    execute function mark_changed_job();

create or replace function make_close_shard(j job) returns void language plpgsql set search_path = nightshift, pg_temp as $$
begin
    insert into shard (job_id, shard_no, tenant_id, kind, state, first_item, end_item, token, ready_at)
        select j.id, next_shard, j.tenant_id, 'close', 'waiting', 0, j.n_items, nextval('lease_token'), clock()
        from job_cursor where job_id = j.id;
    update job_cursor set next_shard = next_shard + 1 where job_id = j.id;
    if j.state <> 'closing' then
        update job set state = 'closing' where id = j.id;
    else
        perform mark_job(j.id);
    end if;
    perform note(j.tenant_id, j.id, null, null, 'closing', 'all items are final; the closing shard waits for a worker');
    perform pg_notify('nightshift_work', j.id::text);
end $$;
comment on function make_close_shard(job) is 'All items are final: one shard that writes what belongs at the end.';

create or replace function end_job(wanted bigint, into_state job_state, why text) returns void
language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_tenant int;
begin
    -- Where a cancelled job wrote nothing, others may.
    update job set state = into_state, finished_at = clock(), errors = why,
        owns_dest = owns_dest and (into_state <> 'cancelled' or exists (select from item where job_id = wanted))
        where id = wanted returning tenant_id into v_tenant;
    perform note(v_tenant, wanted, null, null, into_state::text, coalesce(why, 'the job is ' || replace(into_state::text, '_', ' ')));
    perform pg_notify('nightshift_job', wanted::text);
end $$;
comment on function end_job(bigint, job_state, text) is 'Moves a job to a final state.';

-- The caller holds the cursor. Waiting shards end now; leased ones hear it at their next progress call.
create or replace function stop_job(wanted bigint, why text) returns void language plpgsql set search_path = nightshift, pg_temp as $$
begin
    update job set state = 'cancelling', stopping = why where id = wanted;
    perform settle_job(wanted);
end $$;
comment on function stop_job(bigint, text) is 'Begins to stop a job; why is null when a user cancelled it.';

create or replace function settle_job(wanted bigint) returns boolean language plpgsql as $$
declare
    v_job job;
    v_cursor job_cursor;
    v_shard shard;
    v_n_failed bigint;
    v_gpu_ms bigint;
begin
    select * into v_job from job where id = wanted;
    select * into v_cursor from job_cursor where job_id = wanted;
    if v_job.state in ('ready', 'paused') then
        if v_job.max_failed_items is not null then
            select v_cursor.n_failed + coalesce(sum(n_failed), 0) into v_n_failed from shard
                where job_id = wanted and (state = 'leased' or state = 'waiting');
            if v_n_failed > v_job.max_failed_items then
                perform stop_job(wanted, format('%s items failed, more than limits.max_failed_items = %s', v_n_failed, v_job.max_failed_items));
                return true;
            end if;
        end if;
        if v_job.max_gpu_ms is not null then
            select v_cursor.gpu_ms + coalesce(sum(gpu_ms), 0) into v_gpu_ms from shard
                where job_id = wanted and (state = 'leased' or state = 'waiting');
            if v_gpu_ms > v_job.max_gpu_ms then
                perform stop_job(wanted, format('%s engine hours were used, more than limits.max_gpu_hours = %s',
                    round(v_gpu_ms / 3600000.0, 3), round(v_job.max_gpu_ms / 3600000.0, 3)));
                return true;
            end if;
        end if;
        if v_cursor.next_item < v_job.n_items
            or exists (select from shard where job_id = wanted and state = 'leased')
            or exists (select from shard where job_id = wanted and state = 'waiting') then
            return false;
        end if;
        perform make_close_shard(v_job);
        return true;
    elsif v_job.state = 'closing' then
        select * into v_shard from shard where job_id = wanted and kind = 'close' order by shard_no desc limit 1;
        if v_shard.state = 'finished' then
            perform end_job(wanted, (case when v_cursor.n_failed > 0 then 'finished_with_errors' else 'finished' end)::job_state, null);
        elsif v_shard.state = 'dead' then
            perform end_job(wanted, 'failed', (select format('closing the job failed: %s', coalesce(message, code)) from attempt
                where job_id = wanted and shard_no = v_shard.shard_no order by attempt desc limit 1));
        elsif v_shard.state is null then
            perform make_close_shard(v_job);
        else
            return false;
        end if;
        return true;
    elsif v_job.state = 'cancelling' then
        for v_shard in update shard set state = 'cancelled', finished_at = clock(), ready_at = null
            where job_id = wanted and shard_no = any (array(
                select shard_no from shard where job_id = wanted and state = 'waiting' order by shard_no for update skip locked)) returning * loop
            perform fold(v_shard, 1);
        end loop;
        if exists (select from shard where job_id = wanted and state = 'leased')
            or exists (select from shard where job_id = wanted and state = 'waiting') then
            return false;
        end if;
        perform end_job(wanted, (case when v_job.stopping is null then 'cancelled' else 'failed' end)::job_state, v_job.stopping);
        return true;
    end if;
    return false;
end $$;
comment on function settle_job(bigint) is 'Makes the moves of a job that its stored state calls for.';

reset search_path;
reset role;
