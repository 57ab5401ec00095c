-- A repeated call is told from a late one by its attempt, and a tick waits for no shard.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

-- A lease that runs out leaves the shard with a new token and its last worker: who guesses that token must not hear "done", as if
-- it had ended the lease itself. Only the token of the attempt was ever given to a worker.
create or replace function ended_already(wanted_worker bigint, wanted_job bigint, wanted_shard int, wanted_token bigint, into_states shard_state[])
returns boolean language plpgsql stable as $$
begin
    return exists (select from shard s join worker w on w.id = s.worker_id
            join attempt a on a.job_id = s.job_id and a.shard_no = s.shard_no and a.attempt = s.attempt
        where s.job_id = wanted_job and s.shard_no = wanted_shard and s.token = wanted_token and s.worker_id = wanted_worker
            and w.login = session_user and s.state = any (into_states) and a.token = wanted_token);
end $$;

-- A shard whose worker is just speaking is passed over: that call may wait for a cursor that this tick holds.
-- One shard at a time for each waiting job: the next tick looks again.
create or replace function preempt_for_waiting() returns void language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_now timestamptz := clock();
    c record;
begin
    for c in select * from job_cursor o where o.open and o.not_before <= v_now and o.opens_at <= v_now and o.closes_at > v_now
            and o.priority > (select min(l.priority) from job_cursor l join shard s on s.job_id = l.job_id and s.state = 'leased')
            and o.queued_at <= v_now - interval '2 seconds'
            and not exists (select from shard s where s.job_id = o.job_id and s.state = 'leased')
        order by o.priority desc, o.queued_at limit 16
    loop
        update shard set preempt = true where (job_id, shard_no) = (select s.job_id, s.shard_no
            from shard s join job_cursor l on l.job_id = s.job_id join worker w on w.id = s.worker_id
            where s.state = 'leased' and s.kind = 'items' and not s.preempt and l.priority < c.priority and not w.drain and w.models ? c.model_key
                and (c.fingerprint is null or c.fingerprint = w.models ->> c.model_key) and c.labels <@ w.labels and c.min_memory_bytes <= w.memory_bytes
            order by l.priority, s.job_id desc, s.shard_no desc limit 1 for update of s skip locked)
            and state = 'leased' and not exists (select from shard s join job_cursor l on l.job_id = s.job_id
                where s.state = 'leased' and s.preempt and l.priority < c.priority);
    end loop;
end $$;

create or replace function versions(out protocol int, out protocol_oldest int, out schema int) language sql immutable parallel safe
    as $$ select 1, 1, 30 $$;

reset search_path;
reset role;
