-- The rest of a long shard is shared: it is asked for when a worker has nothing to do, and cut when it waits.
-- A shard whose size the spec gives stays whole.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

comment on column shard.preempt is 'Its worker is asked to give it back: a job of higher priority waits, or a worker without work could take a part.';

-- Like a carve, but off a shard that waits. Its items that are final stay with it, and every item after those becomes a shard of its own,
-- but for as many as this worker is to have. A shard that an attempt was lost or failed with stays whole: what it has spent, and what is
-- suspected of it, belongs to all of its items. Whoever finds its row locked passes over it, like lease_waiting.
create function cut_waiting(w worker, c job_cursor) returns void language plpgsql as $$
declare
    s shard;
    v_from bigint;
    v_end bigint;
    v_moved bigint;
begin
    select * into s from shard where job_id = c.job_id and state = 'waiting' and ready_at <= clock() order by shard_no limit 1 for update skip locked;
    if s.kind is distinct from 'items' or exists (select from attempt a where a.job_id = s.job_id and a.shard_no = s.shard_no
            and a.outcome is distinct from 'released') then
        return;
    end if;
    v_from := greatest(s.first_item, 1 + (select max(i.index) from item i where i.job_id = s.job_id and i.index >= s.first_item and i.index < s.end_item));
    v_end := v_from + carve_size(w, c, s.end_item - v_from);
    if v_end >= s.end_item then
        return;
    end if;
    v_moved := s.charged_ms * (s.end_item - v_end) / (s.end_item - s.first_item);
    update shard set end_item = v_end, charged_ms = charged_ms - v_moved where job_id = s.job_id and shard_no = s.shard_no;
    insert into shard (job_id, shard_no, tenant_id, kind, state, first_item, end_item, token, ready_at, charged_ms)
        values (s.job_id, c.next_shard, s.tenant_id, 'items', 'waiting', v_end, s.end_item, nextval('lease_token'), s.ready_at, v_moved);
    update job_cursor set next_shard = next_shard + 1 where job_id = c.job_id;
end $$;
comment on function cut_waiting(worker, job_cursor) is 'Cuts the next waiting shard of a job down to what this worker is to have; the rest waits as another shard.';

-- For a job whose spec gives no size: that of the shards which this worker carves, or, when nothing is left to carve, cuts.
create function size_shards(w worker, c job_cursor) returns job_cursor language plpgsql as $$
begin
    if c.next_item < c.n_items then
        c.shard_items := carve_size(w, c, c.n_items - c.next_item);
    else
        perform cut_waiting(w, c);
    end if;
    return c;
end $$;
comment on function size_shards(worker, job_cursor) is 'Decides the size of the shard that this worker gets from a job.';

create or replace function take_cursor(w worker, at_priority int, of_tenant int, wait boolean) returns job_cursor language plpgsql as $$
declare
    c job_cursor;
    v_now timestamptz := clock();
begin
    if not wait then
        select * into c from job_cursor where priority = at_priority and tenant_id = of_tenant and open and not_before <= v_now
            and opens_at <= v_now and closes_at > v_now and w.models ? model_key and (fingerprint is null or fingerprint = w.models ->> model_key)
            and labels <@ w.labels and min_memory_bytes <= w.memory_bytes
            order by priority, tenant_id, job_id + 0 limit 1 for update skip locked;
    else
        select * into c from job_cursor where priority = at_priority and tenant_id = of_tenant and open and not_before <= v_now
            and opens_at <= v_now and closes_at > v_now and w.models ? model_key and (fingerprint is null or fingerprint = w.models ->> model_key)
            and labels <@ w.labels and min_memory_bytes <= w.memory_bytes
            order by priority, tenant_id, job_id + 0 limit 1 for update;
    end if;
    if c.shard_items = 0 then
        c := size_shards(w, c);
    end if;
    return c;
end $$;

create or replace function take_cursor_of_loaded(w worker, at_priority int, of_tenant int) returns job_cursor language plpgsql as $$
declare
    c job_cursor;
    v_now timestamptz := clock();
begin
    select * into c from job_cursor where priority = at_priority and tenant_id = of_tenant and open and not_before <= v_now
        and opens_at <= v_now and closes_at > v_now and model_key = w.loaded and (fingerprint is null or fingerprint = w.models ->> model_key)
        and labels <@ w.labels and min_memory_bytes <= w.memory_bytes
        and queued_at <= interval '10 minutes' + (select o.queued_at from job_cursor o where o.priority = at_priority and o.tenant_id = of_tenant
            and o.open order by o.priority, o.tenant_id, o.job_id + 0 limit 1)
        order by priority, tenant_id, job_id + 0 limit 1 for update skip locked;
    if c.shard_items = 0 then
        c := size_shards(w, c);
    end if;
    return c;
end $$;

-- A worker that has nothing in hand and no lease found nothing to claim. The longest shard of a job it could work at is asked for, like a
-- preempted one, if it has 20 seconds and four times the slots of its holder ahead: what waits then is cut for whoever claims.
-- One shard of a job at a time, and none whose worker is just speaking: the next tick looks again.
create function share_tails() returns void language plpgsql as $$
declare
    v_now timestamptz := clock();
    l record;
begin
    for l in with leased as materialized (
            select s.job_id, s.shard_no, s.tenant_id, s.worker_id, s.kind, s.preempt,
                s.end_item - s.first_item - s.n_ok - s.n_failed - s.n_skipped - cardinality(s.in_flight) as rest
            from shard s where s.state = 'leased'
        ), idle as materialized (
            select u.* from (select * from worker order by id desc limit 1000) u
            where u.seen_at > v_now - interval '10 seconds' and not u.drain and coalesce(u.health -> 'items', '[]') = '[]'
                and u.id not in (select worker_id from leased)
        )
        select distinct on (s.job_id) s.job_id, s.shard_no
        from leased s join job_cursor c on c.job_id = s.job_id join job j on j.id = s.job_id join share t on t.tenant_id = s.tenant_id
            join worker h on h.id = s.worker_id, lateral (select s.rest * coalesce(told_ms(h.health, s.job_id), 10000) as ms) ahead
        where s.kind = 'items' and c.shard_items = 0 and c.next_item >= c.n_items and not c.open and j.state = 'ready' and not j.held
            and c.opens_at <= v_now and c.closes_at > v_now and s.rest >= 4 * slots_of(h.info) and ahead.ms >= 20000
            and not exists (select from leased o where o.job_id = s.job_id and o.preempt)
            and exists (select from idle u where u.models ? c.model_key and (c.fingerprint is null or c.fingerprint = u.models ->> c.model_key)
                and c.labels <@ u.labels and c.min_memory_bytes <= u.memory_bytes)
            and (t.max_leased is null or t.max_leased > (select count(*) from leased o where o.tenant_id = s.tenant_id))
            and (t.max_gpu_ms is null or t.month_gpu_ms < t.max_gpu_ms or t.month < date_trunc('month', v_now at time zone 'UTC')::date)
        order by s.job_id, ahead.ms desc, s.shard_no limit 16
    loop
        update shard set preempt = true where (job_id, shard_no) = (select s.job_id, s.shard_no from shard s
            where s.job_id = l.job_id and s.shard_no = l.shard_no and s.state = 'leased' for update skip locked);
    end loop;
end $$;
comment on function share_tails() is 'Asks for the longest shard of a job whose rest idle workers could share.';

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
    perform share_tails();
end $$;

create or replace function versions(out protocol int, out protocol_oldest int, out schema int) language sql immutable parallel safe
    as $$ select 1, 1, 40 $$;

reset search_path;
reset role;
