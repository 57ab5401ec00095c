-- What workers call, second half: progress, finish, release, fail. Each matches (job, shard, token, worker, leased).

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

-- The row, locked, if this is a live lease of session_user; else a row of nulls.
create function lock_lease(wanted_worker bigint, wanted_job bigint, wanted_shard int, wanted_token bigint) returns shard
language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_shard shard;
begin
    select s.* into v_shard from shard s
        where s.job_id = wanted_job and s.shard_no = wanted_shard and s.token = wanted_token and s.worker_id = wanted_worker
            and s.state = 'leased' and s.leased_until > clock()
            and exists (select from worker w where w.id = wanted_worker and w.login = session_user)
        for update of s;
    return v_shard;
end $$;
comment on function lock_lease(bigint, bigint, int, bigint) is 'The fence of every write of a worker.';

-- Stores final items and log lines; the row comes back with its counts moved. What is there already stays as it is.
create function record_results(s shard, items jsonb, log text) returns shard language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_n int := coalesce(jsonb_array_length(items), 0);
    v_now timestamptz := clock();
    v_n_inside int;
    v_n_ok int;
    v_n_failed int;
    v_n_skipped int;
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
    insert into fingerprint (sha256)
        select distinct i ->> 'fingerprint' from jsonb_array_elements(items) i
        where i ? 'fingerprint' and not exists (select from fingerprint f where f.sha256 = i ->> 'fingerprint')
        on conflict do nothing;
    with given as (
        select * from jsonb_to_recordset(items) as x (index bigint, status item_status, item_id text, seed bigint, fingerprint text,
            error_code text, error_message text, artifacts jsonb, gpu_ms int, tokens int, steps int, info jsonb)
        where index >= s.first_item and index < s.end_item and s.kind = 'items'
    ), stored as (
        insert into item (job_id, index, finished_at, seed, tenant_id, shard_no, status, gpu_ms, tokens, steps, attempt, fingerprint_id, item_id,
            artifacts, error_code, error_message, info)
        select s.job_id, g.index, v_now, g.seed, s.tenant_id, s.shard_no, g.status, g.gpu_ms, g.tokens, g.steps, s.attempt,
            (select f.id from fingerprint f where f.sha256 = g.fingerprint), decode(g.item_id, 'hex'),
            -- Most items have one object: a subquery for each would cost more than all the rest.
            case when jsonb_array_length(g.artifacts) = 1 then array[(g.artifacts #>> '{0,role}', g.artifacts #>> '{0,key}',
                    (g.artifacts #>> '{0,bytes}')::bigint, decode(g.artifacts #>> '{0,sha256}', 'hex'))::artifact]
                when jsonb_array_length(g.artifacts) > 1 then (select array_agg((a.role, a.key, a.bytes, decode(a.sha256, 'hex'))::artifact)
                    from jsonb_to_recordset(g.artifacts) as a (role text, key text, bytes bigint, sha256 text)) end,
            g.error_code, g.error_message, nullif(g.info, 'null')
        from given g
        on conflict do nothing
        returning status
    )
    select (select count(*) from given), count(*) filter (where status = 'ok'), count(*) filter (where status = 'failed'),
            count(*) filter (where status = 'skipped')
        into v_n_inside, v_n_ok, v_n_failed, v_n_skipped from stored;
    if v_n_inside <> v_n then
        perform refuse(format('%s of %s reported items lie outside of shard %s of job %s', v_n - v_n_inside, v_n, s.shard_no, s.job_id));
    end if;
    s.n_ok := s.n_ok + v_n_ok;
    s.n_failed := s.n_failed + v_n_failed;
    s.n_skipped := s.n_skipped + v_n_skipped;
    return s;
end $$;
comment on function record_results(shard, jsonb, text) is 'Stores what a worker reports, once.';

create function progress(worker bigint, job bigint, shard int, token bigint, items jsonb default '[]', in_flight bigint[] default '{}',
    log text default null, health jsonb default null)
returns text language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    v_before shard := lock_lease(progress.worker, progress.job, progress.shard, progress.token);
    v_shard shard;
    v_state job_state;
    v_limited boolean;
    v_drain boolean;
begin
    if v_before.job_id is null then
        return 'stop';
    end if;
    v_shard := record_results(v_before, progress.items, progress.log);
    update shard s set leased_until = clock() + s.lease_ms * interval '1 millisecond', n_ok = v_shard.n_ok, n_failed = v_shard.n_failed,
        n_skipped = v_shard.n_skipped, in_flight = coalesce(progress.in_flight, '{}')
        where s.job_id = v_shard.job_id and s.shard_no = v_shard.shard_no;
    select w.drain into v_drain from worker w where w.id = progress.worker;
    update worker w set seen_at = clock(), health = coalesce(progress.health, w.health) where w.id = progress.worker
        and (w.health is distinct from coalesce(progress.health, w.health) or w.seen_at < clock() - interval '1 second');
    select j.state, j.max_failed_items is not null into v_state, v_limited from job j where j.id = v_shard.job_id;
    if v_limited and v_shard.n_failed > v_before.n_failed and v_state in ('ready', 'paused') then
        perform from job_cursor c where c.job_id = v_shard.job_id for update;
        perform settle_job(v_shard.job_id);
        select j.state into v_state from job j where j.id = v_shard.job_id;
    end if;
    return case when v_state in ('ready', 'closing') and not v_drain then 'continue'
        when v_state in ('ready', 'closing', 'paused') then 'drain' else 'cancelled' end;
end $$;
comment on function progress(bigint, bigint, int, bigint, jsonb, bigint[], text, jsonb) is
    'Heartbeat, results, fence check, cancel and drain poll in one. Says continue; stop: the lease is lost, nothing was stored; drain: finish what is in the slots and release; cancelled: drop it and release.';

-- Ends a lease: `outcome` is what the worker says; a job being cancelled ends the shard with it.
-- The shard row is locked and `s` carries the new counts. Also used for leases that ran out.
create function end_lease(s shard, outcome attempt_outcome, code text, message text) returns void language plpgsql
set search_path = nightshift, pg_temp as $$
declare
    v_job job;
    v_n_items bigint := s.end_item - s.first_item;
    v_state shard_state;
begin
    select * into v_job from job where id = s.job_id;
    s.n_failed_attempts := s.n_failed_attempts + (outcome = 'failed')::int;
    s.n_lost_attempts := s.n_lost_attempts + (outcome = 'lost')::int;
    if outcome = 'finished' or (s.kind = 'items' and s.n_ok + s.n_failed + s.n_skipped = v_n_items) then
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
    -- A shard of no error waits for nothing; the others back off, doubling up to a minute.
    update shard set state = v_state, leased_until = null, in_flight = '{}', n_ok = s.n_ok, n_failed = s.n_failed, n_skipped = s.n_skipped,
        n_failed_attempts = s.n_failed_attempts, n_lost_attempts = s.n_lost_attempts,
        token = case when outcome = 'lost' then nextval('lease_token') else token end,
        ready_at = case when v_state = 'waiting' then clock() + case when outcome = 'released' then interval '0'
            else least(60, 2 ^ (greatest(s.n_failed_attempts, s.n_lost_attempts) - 1)) * interval '1 second' end end,
        finished_at = case when v_state <> 'waiting' then clock() end
        where job_id = s.job_id and shard_no = s.shard_no;
    update attempt a set ended_at = clock(), outcome = end_lease.outcome,
        code = case when end_lease.outcome in ('failed', 'lost') then end_lease.code end, message = end_lease.message
        where a.job_id = s.job_id and a.shard_no = s.shard_no and a.attempt = s.attempt;
    if outcome in ('failed', 'lost') then
        perform note(s.tenant_id, s.job_id, s.shard_no, s.worker_id, case when v_state = 'dead' then 'shard_dead'
            when outcome = 'lost' then 'lease_lost' else 'attempt_failed' end, format('attempt %s of shard %s: %s', s.attempt, s.shard_no, message));
    end if;
    if v_state = 'waiting' and v_job.state <> 'cancelling' then
        return;
    end if;
    perform from job_cursor where job_id = s.job_id for update;
    if v_state <> 'waiting' then
        perform fold(s, 1);
    end if;
    perform settle_job(s.job_id);
end $$;
comment on function end_lease(shard, attempt_outcome, text, text) is 'Ends an attempt and moves its shard on.';

create function bury_items(s shard, why_code text, why text) returns shard language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_n int;
begin
    insert into item (job_id, index, finished_at, tenant_id, shard_no, status, attempt, error_code, error_message)
        select s.job_id, i, clock(), s.tenant_id, s.shard_no, 'failed', 0, why_code, why from generate_series(s.first_item, s.end_item - 1) i
        on conflict do nothing;
    get diagnostics v_n = row_count;
    s.n_failed := s.n_failed + v_n;
    return s;
end $$;
comment on function bury_items(shard, text, text) is 'A shard is out of attempts: its unfinished items become failed items.';

-- A repeated call whose first reply was lost: the shard still carries the token and has left the lease by this worker.
create function ended_already(wanted_worker bigint, wanted_job bigint, wanted_shard int, wanted_token bigint, into_states shard_state[])
returns boolean language plpgsql stable set search_path = nightshift, pg_temp as $$
begin
    return exists (select from shard s join worker w on w.id = s.worker_id
        where s.job_id = wanted_job and s.shard_no = wanted_shard and s.token = wanted_token and s.worker_id = wanted_worker
            and w.login = session_user and s.state = any (into_states));
end $$;
comment on function ended_already(bigint, bigint, int, bigint, shard_state[]) is 'Whether a call is the repetition of one that succeeded.';

create function finish(worker bigint, job bigint, shard int, token bigint, items jsonb default '[]', log text default null)
returns boolean language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    v_shard shard := lock_lease(finish.worker, finish.job, finish.shard, finish.token);
begin
    if v_shard.job_id is null then
        return ended_already(finish.worker, finish.job, finish.shard, finish.token, '{finished}');
    end if;
    v_shard := record_results(v_shard, finish.items, finish.log);
    if v_shard.kind = 'items' and v_shard.n_ok + v_shard.n_failed + v_shard.n_skipped < v_shard.end_item - v_shard.first_item then
        perform refuse(format('shard %s of job %s has %s of %s items', v_shard.shard_no, v_shard.job_id,
            v_shard.n_ok + v_shard.n_failed + v_shard.n_skipped, v_shard.end_item - v_shard.first_item), 'report all of them, or release the shard');
    end if;
    perform end_lease(v_shard, 'finished', null, null);
    return true;
end $$;
comment on function finish(bigint, bigint, int, bigint, jsonb, text) is 'Reports the last items and ends the shard. False: the lease is lost.';

create function release(worker bigint, job bigint, shard int, token bigint, items jsonb default '[]', log text default null)
returns boolean language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    v_shard shard := lock_lease(release.worker, release.job, release.shard, release.token);
begin
    if v_shard.job_id is null then
        return ended_already(release.worker, release.job, release.shard, release.token, '{waiting,finished,cancelled}');
    end if;
    perform end_lease(record_results(v_shard, release.items, release.log), 'released', null, null);
    return true;
end $$;
comment on function release(bigint, bigint, int, bigint, jsonb, text) is 'Gives the shard back; the attempt costs nothing. False: the lease is lost.';

create function fail(worker bigint, job bigint, shard int, token bigint, code text, message text, items jsonb default '[]', log text default null)
returns boolean language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    v_shard shard := lock_lease(fail.worker, fail.job, fail.shard, fail.token);
begin
    if v_shard.job_id is null then
        return ended_already(fail.worker, fail.job, fail.shard, fail.token, '{waiting,dead,finished,cancelled}');
    end if;
    perform end_lease(record_results(v_shard, fail.items, fail.log), 'failed', coalesce(nullif(fail.code, ''), 'unknown'), fail.message);
    return true;
end $$;
comment on function fail(bigint, bigint, int, bigint, text, text, jsonb, text) is
    'Gives the shard up and spends an attempt; out of attempts, its unfinished items fail with this code. False: the lease is lost.';

grant execute on function progress(bigint, bigint, int, bigint, jsonb, bigint[], text, jsonb), finish(bigint, bigint, int, bigint, jsonb, text),
    release(bigint, bigint, int, bigint, jsonb, text), fail(bigint, bigint, int, bigint, text, text, jsonb, text) to nightshift_worker;

reset search_path;
reset role;
