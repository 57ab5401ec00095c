-- Shards that nobody gave a size are carved for about a minute of the worker that claims them, and smaller near the end of a job.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

alter table job drop constraint job_shard_items_range;
alter table job add constraint job_shard_items_range check (shard_items between 0 and 100000);
comment on column job.shard_items is 'Items a shard; 0: as many as the worker that claims it does in about a minute (carve_size).';
comment on column job_cursor.shard_items is 'Items a shard; 0: decided at each claim (carve_size).';
comment on column worker.health is
    'What it said with its last progress call. items: "job/index" of what is in its slots; item_ms: by job, milliseconds from one picture to the next.';

create function told_ms(health jsonb, job bigint) returns double precision language plpgsql immutable parallel safe as $$
declare
    v_ms jsonb := health -> 'item_ms' -> job::text;
begin
    return case when jsonb_typeof(v_ms) = 'number' then least(greatest(v_ms::numeric, 1), 1e9) end;
end $$;
comment on function told_ms(jsonb, bigint) is
    'Milliseconds of wall clock that a worker took for each item it drew of a job, all slots together, by its health; null: it has not said.';

create function slots_of(info jsonb) returns int language plpgsql immutable parallel safe as $$
declare
    v_slots jsonb := info -> 'slots';
begin
    return case when jsonb_typeof(v_slots) = 'number' then least(greatest(v_slots::numeric, 1), 1000) else 1 end;
end $$;
comment on function slots_of(jsonb) is 'Items that a worker has in hand at a time, by what it said at registration.';

-- The time of a shard is that of the worker that claims it, and the worker knows it best: its health says how long it took from one picture
-- to the next, with all its slots and with fetching and storing. Items that were there already or failed without the engine do not count, so
-- a shard of such takes less than a minute, never more. Until the worker has said something of this job its shards are small. What others
-- took is a hint then: a fifth of a minute by their mean, so that a worker five times as slow is in time.
-- Near the end, guided self-scheduling (Polychronopoulos and Kuck 1987), weighted by speed: half of what the claimer's share of the rest is,
-- counted in workers as fast as itself that are at this job or have nothing in hand. Never less than the claimer has slots for.
-- A worker alone shares with nobody. Only the 1,000 workers that registered last are looked at, and only when the rest is 2,048 shards or less.
create function carve_size(w worker, c job_cursor, rest bigint) returns int language plpgsql stable as $$
declare
    v_now timestamptz := clock();
    v_slots int := slots_of(w.info);
    v_ms double precision := told_ms(w.health, c.job_id);
    v_size int;
    v record;
begin
    if v_ms is not null then
        v_size := 60000 / v_ms;
    else
        v_size := least(64, 2 * c.next_item / greatest(c.next_shard, 1), case when c.gpu_ms > 0 then 12000 * (c.n_ok + c.n_failed) / c.gpu_ms end);
    end if;
    v_size := least(greatest(v_size, v_slots), 10000);
    if rest < v_size * 2048::bigint then
        select count(*) as n, sum(coalesce(v_ms / told_ms(u.health, c.job_id), 1)) as weight into v
            from (select * from worker order by id desc limit 1000) u
            where u.id = w.id or u.seen_at > v_now - interval '1 minute' and not u.drain and u.models ? c.model_key
                and (c.fingerprint is null or c.fingerprint = u.models ->> c.model_key) and c.labels <@ u.labels and c.min_memory_bytes <= u.memory_bytes
                and (coalesce(u.health -> 'items', '[]') = '[]'
                    or u.id in (select s.worker_id from shard s where s.job_id = c.job_id and s.state = 'leased'));
        if v.n > 1 then
            v_size := least(v_size, greatest(ceil(rest / (2 * v.weight)), v_slots));
        end if;
    end if;
    return v_size;
end $$;
comment on function carve_size(worker, job_cursor, bigint) is 'Items of the next shard that this worker carves from the rest of this job, whose spec gives no size.';

-- The size is decided with the cursor in hand, so that claim carves by the cursor it gets.
create or replace function take_cursor(w worker, at_priority int, of_tenant int, wait boolean) returns job_cursor language plpgsql as $$
declare
    c job_cursor;
    v_now timestamptz := clock();
begin
    if not wait then
        select * into c from job_cursor where priority = at_priority and tenant_id = of_tenant and open and not_before <= v_now
            and opens_at <= v_now and closes_at > v_now and w.models ? model_key and (fingerprint is null or fingerprint = w.models ->> model_key)
            and labels <@ w.labels and min_memory_bytes <= w.memory_bytes
            order by priority, tenant_id, job_id limit 1 for update skip locked;
    else
        select * into c from job_cursor where priority = at_priority and tenant_id = of_tenant and open and not_before <= v_now
            and opens_at <= v_now and closes_at > v_now and w.models ? model_key and (fingerprint is null or fingerprint = w.models ->> model_key)
            and labels <@ w.labels and min_memory_bytes <= w.memory_bytes
            order by priority, tenant_id, job_id limit 1 for update;
    end if;
    if c.shard_items = 0 and c.next_item < c.n_items then
        c.shard_items := carve_size(w, c, c.n_items - c.next_item);
    end if;
    return c;
end $$;
comment on function take_cursor(worker, int, int, boolean) is 'Next job of a tenant at a priority for this worker, with the size of the shards it carves.';

create or replace function take_cursor_of_loaded(w worker, at_priority int, of_tenant int) returns job_cursor language plpgsql as $$
declare
    c job_cursor;
    v_now timestamptz := clock();
begin
    select * into c from job_cursor where priority = at_priority and tenant_id = of_tenant and open and not_before <= v_now
        and opens_at <= v_now and closes_at > v_now and model_key = w.loaded and (fingerprint is null or fingerprint = w.models ->> model_key)
        and labels <@ w.labels and min_memory_bytes <= w.memory_bytes
        and queued_at <= interval '10 minutes' + (select o.queued_at from job_cursor o where o.priority = at_priority and o.tenant_id = of_tenant
            and o.open order by o.priority, o.tenant_id, o.job_id limit 1)
        order by priority, tenant_id, job_id limit 1 for update skip locked;
    if c.shard_items = 0 and c.next_item < c.n_items then
        c.shard_items := carve_size(w, c, c.n_items - c.next_item);
    end if;
    return c;
end $$;

-- Shards without a size of their own: as many workers as there are items may share what is left.
create or replace function queue() returns table (job_id bigint, tenant text, name text, tenant_no int, usage double precision, weight double precision, max_leased int,
    priority int, items_left bigint, shards_left bigint, n_leased bigint, item_ms double precision, measured_on text, n_workers bigint, n_live bigint,
    opens_unix_ms bigint, closes_unix_ms bigint, time_window jsonb, after bigint[], blocked boolean, reason text, now_unix_ms bigint)
language plpgsql stable security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock();
    v_month date := date_trunc('month', v_now at time zone 'UTC')::date;
begin
    return query
    with live as materialized (
        select w.models, w.labels, w.memory_bytes from worker w where w.seen_at > v_now - interval '1 minute' and not w.drain
    ), mine as materialized (
        select t as id from my_tenants() t
    ), waiting as (
        select j.id, j.tenant_id, j.name, j.state, j.held, j.kind, j.model_key, j.priority, j.n_items, j.shard_items, j.opens_at, j.closes_at, j.time_window, j.after,
            j.worker_labels, j.min_memory_bytes, c.next_item, c.gpu_ms, c.n_ok + c.n_failed + c.n_skipped as n_final, c.n_ok + c.n_failed as n_drawn,
            case when not j.allow_mixed then (select f.sha256 from fingerprint f where f.id = j.fingerprint_id) end as fingerprint,
            j.tenant_id in (select m.id from mine m) or pg_has_role(session_user, 'nightshift_owner', 'member') as own,
            open.*
        from job j join job_cursor c on c.job_id = j.id, lateral (
            select count(*) as n_open, count(*) filter (where s.state = 'leased') as n_leased,
                coalesce(sum(s.n_ok + s.n_failed + s.n_skipped), 0) as open_final, coalesce(sum(s.n_ok + s.n_failed), 0) as open_drawn,
                coalesce(sum(s.gpu_ms), 0) as open_ms
            from (select * from shard where job_id = j.id and state = 'leased' union all select * from shard where job_id = j.id and state = 'waiting') s
        ) open
        where j.state in ('ready', 'paused')
    )
    select case when w.own then w.id end, case when w.own then t.name end, case when w.own then w.name end,
        (dense_rank() over (order by w.tenant_id))::int, s.usage / charge_factor(v_now), s.weight, s.max_leased, w.priority,
        (w.n_items - w.n_final - w.open_final)::bigint, (ceil((w.n_items - w.next_item)::numeric / greatest(w.shard_items, 1)) + w.n_open)::bigint, w.n_leased,
        case when w.n_drawn + w.open_drawn > 0 and w.gpu_ms + w.open_ms > 0 then ((w.gpu_ms + w.open_ms) / (w.n_drawn + w.open_drawn))::double precision
            else measured_ms(w.model_key, w.kind) end,
        case when w.n_drawn + w.open_drawn > 0 and w.gpu_ms + w.open_ms > 0 then 'this job' when measured_ms(w.model_key, w.kind) is not null then 'its model' end,
        (select count(*) from live l where l.models ? w.model_key and (w.fingerprint is null or l.models ->> w.model_key = w.fingerprint)
            and w.worker_labels <@ l.labels and w.min_memory_bytes <= l.memory_bytes),
        (select count(*) from live),
        case when isfinite(w.opens_at) then floor(extract(epoch from w.opens_at) * 1000)::bigint when w.opens_at = 'infinity' then 9223372036854775807 end,
        case when isfinite(w.closes_at) then floor(extract(epoch from w.closes_at) * 1000)::bigint end,
        case when w.own then w.time_window end, case when w.own then w.after else '{}' end,
        w.state <> 'ready' or w.held or (s.month_gpu_ms >= s.max_gpu_ms and s.month = v_month) is true or (not w.own and waits_for_jobs(w.after)),
        case when w.own then waits_for(w.id) end, floor(extract(epoch from v_now) * 1000)::bigint
    from waiting w join tenant t on t.id = w.tenant_id join share s on s.tenant_id = w.tenant_id
    order by w.priority desc, s.usage / s.weight, w.tenant_id, w.id;
end $$;

create or replace function versions(out protocol int, out protocol_oldest int, out schema int) language sql immutable parallel safe
    as $$ select 1, 1, 32 $$;

reset search_path;
reset role;
