-- A repeated call is told from a late one by its attempt, and nobody who holds a cursor waits for a shard.

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

-- A call about several leases locks their rows first. One that a tick takes back at that moment is found waiting, which is no lease any
-- more, but it stays locked until that call ends, and that call may wait for a cursor. So who holds the cursor passes over a waiting shard
-- that is locked: the next claim or tick comes by.
create or replace function lease_waiting(w bigint, c job_cursor, room int, lease int) returns setof shard
language plpgsql as $$
#variable_conflict use_column
begin
    return query with ready as materialized (
        select shard_no from shard where job_id = c.job_id and state = 'waiting' and ready_at <= clock() order by shard_no limit 64
    ), free as materialized (
        select shard_no from shard where job_id = c.job_id and shard_no = any (array(select shard_no from ready order by shard_no limit room))
            and state = 'waiting' order by shard_no for update skip locked
    ), taken as (
        update shard s set state = 'leased', ready_at = null, attempt = s.attempt + 1, token = nextval('lease_token'), worker_id = w,
            lease_ms = lease, leased_until = clock() + lease * interval '1 millisecond', in_flight = '{}', preempt = false
        where s.job_id = c.job_id and s.shard_no = any (array(select shard_no from free)) returning s.*
    ), history as (
        insert into attempt (job_id, shard_no, attempt, tenant_id, round, token, worker_id, started_at)
            select job_id, shard_no, attempt, tenant_id, c.round, token, w, clock() from taken
    )
    select * from taken;
end $$;

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

create or replace function versions(out protocol int, out protocol_oldest int, out schema int) language sql immutable parallel safe
    as $$ select 1, 1, 30 $$;

reset search_path;
reset role;
