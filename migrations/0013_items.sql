-- Items in fewer bytes, and the calls that write them in fewer statements.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

drop view outputs;
drop view items;
alter table item rename to item_before;
alter table item_before rename constraint item_pkey to item_before_pkey;

-- Ordered so that no byte is lost to alignment: ten million of these must fit. The first object stands in columns of the
-- row: an array of one composite takes fifty bytes more.
create table item (
    job_id bigint not null,
    index bigint not null,
    finished_at timestamptz not null,
    seed bigint,
    bytes bigint,
    tenant_id int not null,
    shard_no int not null,
    status item_status not null,
    gpu_ms int,
    tokens int,
    steps int,
    attempt smallint not null,
    fingerprint_id smallint,
    item_id bytea,
    sha256 bytea,
    role text,
    key text,
    more artifact[],
    error_code text,
    error_message text,
    info jsonb,
    primary key (job_id, index),
    constraint item_ok_whole check (status <> 'ok' or (item_id is not null and fingerprint_id is not null and key is not null)),
    constraint item_error_fits_status check ((error_code is null) = (status = 'ok')),
    constraint item_no_object_unless_ok check (status = 'ok' or (key is null and more is null)),
    constraint item_object_whole check (num_nulls(role, key, bytes, sha256) in (0, 4))
) with (autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_analyze_scale_factor = 0.1);
comment on table item is 'One row per finished item. A row ok implies that its objects exist with these sizes and sha256.';
comment on column item.job_id is 'The job.';
comment on column item.index is 'Index within the job.';
comment on column item.finished_at is 'When it was recorded.';
comment on column item.seed is 'Seed, 0 to 2^63-1; null when it never got one.';
comment on column item.bytes is 'Size of its first object in bytes.';
comment on column item.tenant_id is 'Tenant of the job.';
comment on column item.shard_no is 'The shard.';
comment on column item.status is 'ok, failed or skipped.';
comment on column item.gpu_ms is 'Engine time in milliseconds.';
comment on column item.tokens is 'Tokens generated.';
comment on column item.steps is 'Forward passes used.';
comment on column item.attempt is 'Attempt that reported it; 0 when the store failed it because the shard ran out of attempts.';
comment on column item.fingerprint_id is 'Engine that made it.';
comment on column item.item_id is 'Id of the item.';
comment on column item.sha256 is 'sha256 of its first object, 32 bytes.';
comment on column item.role is 'What its first object is: image, map, joint, ...';
comment on column item.key is 'Key of its first, primary object, relative to the destination of the job; null unless ok.';
comment on column item.more is 'Its further objects; null when there is none.';
comment on column item.error_code is 'Stable code; null when ok.';
comment on column item.error_message is 'The error in words.';
comment on column item.info is 'What else is worth keeping: facts of the given picture, crop box.';
alter table item enable row level security;
create policy own on item for select to nightshift_tenant using (tenant_id = any (array(select my_tenants())));
grant select on item to nightshift_tenant;

insert into item (job_id, index, finished_at, seed, tenant_id, shard_no, status, gpu_ms, tokens, steps, attempt, fingerprint_id, item_id,
        bytes, sha256, role, key, more, error_code, error_message, info)
    select job_id, index, finished_at, seed, tenant_id, shard_no, status, gpu_ms, tokens, steps, attempt, fingerprint_id, item_id,
        (artifacts[1]).bytes, (artifacts[1]).sha256, (artifacts[1]).role, (artifacts[1]).key, nullif(artifacts[2:], '{}'), error_code, error_message, info
    from item_before;
drop table item_before;

create function artifacts_of(role text, key text, bytes bigint, sha256 bytea, more artifact[]) returns artifact[] language sql immutable parallel safe as $$
    select case when key is not null then array[(role, key, bytes, sha256)::nightshift.artifact] || coalesce(more, '{}') end
$$;
comment on function artifacts_of(text, text, bigint, bytea, artifact[]) is 'All objects of an item, the primary one first; null when it has none.';
grant execute on function artifacts_of(text, text, bigint, bytea, artifact[]) to nightshift_tenant;

create view items with (security_invoker = true) as
    select i.job_id, i.index, i.status, encode(i.item_id, 'hex') as item_id, i.seed, i.error_code, i.error_message,
        artifacts_of(i.role, i.key, i.bytes, i.sha256, i.more) as artifacts, i.shard_no, i.attempt::int as attempt,
        a.worker_id, i.gpu_ms, i.tokens, i.steps, f.sha256 as fingerprint, i.info, i.finished_at
    from item i left join fingerprint f on f.id = i.fingerprint_id
        left join attempt a on a.job_id = i.job_id and a.shard_no = i.shard_no and a.attempt = i.attempt;
comment on view items is 'Finished items: ok, failed or skipped.';

create view outputs with (security_invoker = true) as
    select i.job_id, i.index, encode(i.item_id, 'hex') as item_id, a.role, j.dest || a.key as uri, a.key, a.bytes, encode(a.sha256, 'hex') as sha256, a.n
    from item i join job j on j.id = i.job_id,
        unnest(artifacts_of(i.role, i.key, i.bytes, i.sha256, i.more)) with ordinality as a (role, key, bytes, sha256, n);
comment on view outputs is 'Stored objects, one row each; n counts them within their item.';
grant select on items, outputs to nightshift_tenant;

create or replace function finished(worker bigint, job bigint, shard int, token bigint, after_index bigint, "limit" int)
returns table (index bigint, status text, item_id text, seed bigint, shard_no int, attempt int, worker_id bigint, error_code text, error_message text,
    artifacts jsonb, gpu_ms int, tokens int, steps int, fingerprint text, info jsonb, finished_unix_ms bigint)
language plpgsql stable security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    v_shard shard;
begin
    if not has_lease(finished.worker, finished.job, finished.shard, finished.token) then
        perform refuse('the lease was lost', code => 'NSLST');
    end if;
    select * into v_shard from shard s where s.job_id = finished.job and s.shard_no = finished.shard;
    return query select i.index, i.status::text, encode(i.item_id, 'hex'), i.seed, i.shard_no, i.attempt::int, a.worker_id, i.error_code,
            i.error_message, artifacts_json(artifacts_of(i.role, i.key, i.bytes, i.sha256, i.more)), i.gpu_ms, i.tokens, i.steps, f.sha256, i.info,
            floor(extract(epoch from i.finished_at) * 1000)::bigint
        from item i left join fingerprint f on f.id = i.fingerprint_id
            left join attempt a on a.job_id = i.job_id and a.shard_no = i.shard_no and a.attempt = i.attempt
        where i.job_id = finished.job and i.index > finished.after_index and i.index >= v_shard.first_item and i.index < v_shard.end_item
        order by i.index limit least(greatest(finished."limit", 1), 10000);
end $$;

-- Stores final items and log lines; the row comes back with its counts moved. What is there already stays as it is.
create or replace function record_results(s shard, items jsonb, log text) returns shard language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_n int := coalesce(jsonb_array_length(items), 0);
    v_now timestamptz := clock();
    v_fingerprint text := items #>> '{0,fingerprint}';
    v_fingerprint_id smallint;
    v record;
begin
    if log <> '' and log is distinct from (select text from attempt_log
            where job_id = s.job_id and shard_no = s.shard_no and attempt = s.attempt order by id desc limit 1) then
        insert into attempt_log (job_id, shard_no, attempt, tenant_id, text) values (s.job_id, s.shard_no, s.attempt, s.tenant_id, log);
    end if;
    if v_n = 0 then
        return s;
    elsif v_n > 10000 then
        perform refuse(format('%s items in one report, more than 10000', v_n));
    end if;
    -- Nearly always all items have the fingerprint of the first.
    select id into v_fingerprint_id from fingerprint where sha256 = v_fingerprint;
    with given as materialized (
        select * from jsonb_to_recordset(items) as x (index bigint, status item_status, item_id text, seed bigint, fingerprint text,
            error_code text, error_message text, artifacts jsonb, gpu_ms int, tokens int, steps int, info jsonb)
    ), stored as (
        insert into item (job_id, index, finished_at, seed, bytes, tenant_id, shard_no, status, gpu_ms, tokens, steps, attempt, fingerprint_id, item_id,
            sha256, role, key, more, error_code, error_message, info)
        select s.job_id, g.index, v_now, g.seed, (g.artifacts #>> '{0,bytes}')::bigint, s.tenant_id, s.shard_no, g.status, g.gpu_ms, g.tokens, g.steps,
            s.attempt, case when g.fingerprint = v_fingerprint and v_fingerprint_id is not null then v_fingerprint_id
                when g.fingerprint is not null then fingerprint_id_of(g.fingerprint) end,
            decode(g.item_id, 'hex'), decode(g.artifacts #>> '{0,sha256}', 'hex'), g.artifacts #>> '{0,role}', g.artifacts #>> '{0,key}',
            case when jsonb_array_length(g.artifacts) > 1 then (select array_agg((a.role, a.key, a.bytes, decode(a.sha256, 'hex'))::artifact)
                from jsonb_to_recordset(g.artifacts - 0) as a (role text, key text, bytes bigint, sha256 text)) end,
            g.error_code, g.error_message, nullif(g.info, 'null')
        from given g where s.kind = 'items' and g.index >= s.first_item and g.index < s.end_item
        on conflict do nothing
        returning status, gpu_ms
    )
    select count(*) filter (where status = 'ok') as n_ok, count(*) filter (where status = 'failed') as n_failed,
            count(*) filter (where status = 'skipped') as n_skipped, coalesce(sum(gpu_ms), 0) as gpu_ms, count(*) as n
        into v from stored;
    if v.n <> v_n then -- repeated ones, or some of another shard
        select count(*) into v.n from jsonb_to_recordset(items) as x (index bigint) where s.kind = 'items' and index >= s.first_item and index < s.end_item;
        if v.n <> v_n then
            perform refuse(format('%s of %s reported items lie outside of shard %s of job %s', v_n - v.n, v_n, s.shard_no, s.job_id));
        end if;
    end if;
    s.n_ok := s.n_ok + v.n_ok;
    s.n_failed := s.n_failed + v.n_failed;
    s.n_skipped := s.n_skipped + v.n_skipped;
    s.gpu_ms := s.gpu_ms + v.gpu_ms;
    return s;
end $$;

create function fingerprint_id_of(wanted text) returns smallint language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_id smallint;
begin
    insert into fingerprint (sha256) select wanted where not exists (select from fingerprint where sha256 = wanted) on conflict do nothing;
    select id into v_id from fingerprint where sha256 = wanted;
    return v_id;
end $$;
comment on function fingerprint_id_of(text) is 'Id of a fingerprint, stored when new.';

-- Adds a shard's counts to the job's when it ends, and takes them back when it waits again.
create or replace function fold(s shard, sign int) returns void language plpgsql set search_path = nightshift, pg_temp as $$
begin
    update job_cursor set n_ok = n_ok + sign * s.n_ok, n_failed = n_failed + sign * s.n_failed, n_skipped = n_skipped + sign * s.n_skipped,
        gpu_ms = gpu_ms + sign * s.gpu_ms, unsettled_ms = unsettled_ms + sign * (s.gpu_ms - s.charged_ms)
    where job_id = s.job_id;
end $$;

create function settle_charge(tenant int, job bigint, ms bigint) returns void language plpgsql as $$
begin
    perform from share where tenant_id = tenant for update skip locked;
    if found then
        perform charge(tenant, ms);
        update job_cursor set unsettled_ms = unsettled_ms - ms where job_id = job;
    end if;
end $$;
comment on function settle_charge(int, bigint, bigint) is 'Charges what shards took beyond their charge at claim. The caller holds the cursor.';

create or replace function progress(worker bigint, job bigint, shard int, token bigint, items jsonb default '[]', in_flight bigint[] default '{}',
    log text default null, health jsonb default null)
returns text language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    v_before shard := lock_lease(progress.worker, progress.job, progress.shard, progress.token);
    v_shard shard;
    v_job record;
    v_drain boolean;
begin
    if v_before.job_id is null then
        return 'stop';
    end if;
    v_shard := record_results(v_before, progress.items, progress.log);
    update shard s set leased_until = clock() + s.lease_ms * interval '1 millisecond', n_ok = v_shard.n_ok, n_failed = v_shard.n_failed,
        n_skipped = v_shard.n_skipped, gpu_ms = v_shard.gpu_ms, in_flight = coalesce(progress.in_flight, '{}')
        where s.job_id = v_shard.job_id and s.shard_no = v_shard.shard_no;
    update worker w set seen_at = clock(), health = coalesce(progress.health, w.health) where w.id = progress.worker
        and (w.health is distinct from coalesce(progress.health, w.health) or w.seen_at < clock() - interval '1 second');
    select j.state, j.max_failed_items is not null or j.max_gpu_ms is not null as limited,
        (select w.drain from worker w where w.id = progress.worker) as drain, j.time_window ->> 'when_closes' is distinct from 'overrun' and j.closes_at <= clock() as closed
        into v_job from job j where j.id = v_shard.job_id;
    if v_job.limited and (v_shard.n_failed > v_before.n_failed or v_shard.gpu_ms > v_before.gpu_ms) and v_job.state in ('ready', 'paused') then
        perform from job_cursor c where c.job_id = v_shard.job_id for update;
        perform settle_job(v_shard.job_id);
        select j.state into v_job.state from job j where j.id = v_shard.job_id;
    end if;
    return case when v_job.state in ('ready', 'closing') and not v_job.drain and not v_shard.preempt
            and not (v_job.closed and v_job.state = 'ready') then 'continue'
        when v_job.state in ('ready', 'closing', 'paused') then 'drain' else 'cancelled' end;
end $$;

-- Ends a lease: `outcome` is what the worker says; a job being cancelled ends the shard with it.
-- The shard row is locked and `s` carries the new counts. Also used for leases that ran out.
create or replace function end_lease(s shard, outcome attempt_outcome, code text, message text) returns void language plpgsql
set search_path = nightshift, pg_temp as $$
declare
    v_job record;
    v_cursor job_cursor;
    v_state shard_state;
    v_pause double precision := 0;
begin
    select state, max_attempts, backoff_ms, max_backoff_ms, jitter into v_job from job where id = s.job_id;
    s.n_failed_attempts := s.n_failed_attempts + (outcome = 'failed')::int;
    s.n_lost_attempts := s.n_lost_attempts + (outcome = 'lost')::int;
    if outcome = 'finished' or (s.kind = 'items' and s.n_ok + s.n_failed + s.n_skipped = s.end_item - s.first_item) then
        v_state := 'finished';
    elsif v_job.state = 'cancelling' then
        v_state := 'cancelled';
        outcome := (case when outcome = 'released' then 'cancelled' else outcome::text end)::attempt_outcome;
    elsif greatest(s.n_failed_attempts, s.n_lost_attempts) >= v_job.max_attempts then
        v_state := 'dead';
    else
        v_state := 'waiting';
    end if;
    if v_state = 'dead' and s.kind = 'items' then
        s := bury_items(s, case when outcome = 'lost' then 'attempts_exhausted' else code end, message);
    end if;
    if v_state = 'waiting' and outcome <> 'released' then
        v_pause := least(v_job.max_backoff_ms, v_job.backoff_ms * 2 ^ (greatest(s.n_failed_attempts, s.n_lost_attempts) - 1))
            * case when v_job.jitter then random() else 1 end;
    end if;
    update shard set state = v_state, leased_until = null, in_flight = '{}', n_ok = s.n_ok, n_failed = s.n_failed, n_skipped = s.n_skipped,
        gpu_ms = s.gpu_ms, n_failed_attempts = s.n_failed_attempts, n_lost_attempts = s.n_lost_attempts, preempt = false,
        token = case when outcome = 'lost' then nextval('lease_token') else token end,
        ready_at = case when v_state = 'waiting' then clock() + v_pause * interval '1 millisecond' end,
        finished_at = case when v_state <> 'waiting' then clock() end
        where job_id = s.job_id and shard_no = s.shard_no;
    update attempt a set ended_at = clock(), outcome = end_lease.outcome,
        code = case when end_lease.outcome in ('failed', 'lost') then end_lease.code end, message = end_lease.message
        where a.job_id = s.job_id and a.shard_no = s.shard_no and a.attempt = s.attempt;
    if outcome in ('failed', 'lost') then
        perform note(s.tenant_id, s.job_id, s.shard_no, s.worker_id, case when v_state = 'dead' then 'shard_dead'
            when outcome = 'lost' then 'lease_lost' else 'attempt_failed' end, format('attempt %s of shard %s: %s', s.attempt, s.shard_no, message));
    end if;
    if v_state <> 'waiting' then
        perform fold(s, 1);
    end if;
    select * into v_cursor from job_cursor where job_id = s.job_id for update;
    -- A charge that was far off is put right now, unless somebody else is at the tenant's share: nobody waits for it.
    if 2 * abs(v_cursor.unsettled_ms) > s.charged_ms then
        perform settle_charge(s.tenant_id, s.job_id, v_cursor.unsettled_ms);
    end if;
    -- Most shards end while others are still to be carved: nothing is to be settled.
    if v_state = 'waiting' and v_job.state <> 'cancelling' then
        perform mark_job(s.job_id);
    elsif v_cursor.limited or v_cursor.next_item >= v_cursor.n_items or v_job.state <> 'ready' then
        perform settle_job(s.job_id);
    end if;
end $$;

reset search_path;
reset role;
