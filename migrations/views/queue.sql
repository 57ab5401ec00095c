-- The queue with what a forecast needs, and figures for monitoring.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create or replace function measured_ms(model_key text, kind text) returns double precision
language sql stable security definer set search_path = nightshift, pg_temp as $$
    select sum(lately.gpu_ms) / nullif(sum(lately.n), 0) from (
        select c.gpu_ms::double precision as gpu_ms, c.n_ok + c.n_failed as n from job j join job_cursor c on c.job_id = j.id
        where j.model_key = measured_ms.model_key and j.kind = measured_ms.kind and c.n_ok > 0 and c.gpu_ms > 0
        order by j.id desc limit 20) lately
$$;
comment on function measured_ms(text, text) is 'Engine milliseconds an item took in the last jobs of this model and kind; null: none was measured.';
grant execute on function measured_ms(text, text) to nightshift_tenant;

-- Shards without a size of their own: as many workers as there are items may share what is left.
create or replace function queue() returns table (job_id bigint, tenant text, name text, tenant_no int, usage double precision, weight double precision, max_leased int,
    priority int, items_left bigint, shards_left bigint, n_leased bigint, item_ms double precision, measured_on text, n_workers bigint, n_live bigint,
    opens_unix_ms bigint, closes_unix_ms bigint, time_window jsonb, after bigint[], blocked boolean, reason text, now_unix_ms bigint, call text)
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
        case when w.own then waits_for(w.id) end, floor(extract(epoch from v_now) * 1000)::bigint,
        case when w.own then way_on(w.state, w.held, true, null) end
    from waiting w join tenant t on t.id = w.tenant_id join share s on s.tenant_id = w.tenant_id
    order by w.priority desc, s.usage / s.weight, w.tenant_id, w.id;
end $$;
comment on function queue() is
    'Jobs that are not over, in the order of claims, with what a forecast needs. Jobs of other tenants have no id and no name; tenant_no tells them apart.';
grant execute on function queue() to nightshift_tenant;

-- Reads partial indexes and narrow rows of what is open: nothing here grows with what has ended.
create or replace function figures() returns table (name text, label text, value double precision)
language plpgsql stable security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock();
begin
    return query
        with counted as (
            select 'submitted' as state, count(*) as n from job where state = 'submitted'
            union all
            select state::text, count(*) from job where state in ('ready', 'paused', 'closing', 'cancelling') group by 1
        )
        select 'jobs', s, coalesce((select c.n from counted c where c.state = s), 0)::double precision
        from unnest(array['submitted', 'ready', 'paused', 'closing', 'cancelling']) s;
    return query
        with active as (
            select j.n_items, c.n_ok, c.n_failed, c.n_skipped, o.* from job j join job_cursor c on c.job_id = j.id, lateral (
                select coalesce(sum(s.n_ok), 0) as open_ok, coalesce(sum(s.n_failed), 0) as open_failed, coalesce(sum(s.n_skipped), 0) as open_skipped
                from (select * from shard where job_id = j.id and state = 'leased' union all select * from shard where job_id = j.id and state = 'waiting') s
            ) o where j.state in ('ready', 'paused', 'closing', 'cancelling')
        ), summed as (
            select coalesce(sum(n_items), 0) as n_all, coalesce(sum(n_ok + open_ok), 0) as n_ok, coalesce(sum(n_failed + open_failed), 0) as n_failed,
                coalesce(sum(n_skipped + open_skipped), 0) as n_skipped from active
        )
        select 'active_items', l.label, l.n::double precision from summed,
            lateral (values ('ok', n_ok), ('failed', n_failed), ('skipped', n_skipped), ('waiting', n_all - n_ok - n_failed - n_skipped)) l (label, n);
    return query select 'items_finished_total', '', pg_stat_get_tuples_inserted('item'::regclass)::double precision;
    return query select 'leases', '', (select count(*) from shard where state = 'leased')::double precision;
    return query select 'workers', w.state, (select count(*) from worker x where x.seen_at >= v_now - interval '1 minute' and x.drain = w.drain)::double precision
        from (values ('live', false), ('draining', true)) w (state, drain);
    return query
        select 'oldest_waiting_seconds', 'submitted',
            coalesce((select extract(epoch from v_now - min(submitted_at)) from job where state = 'submitted'), 0)::double precision
        union all
        select 'oldest_waiting_seconds', 'ready',
            coalesce((select extract(epoch from v_now - min(queued_at)) from job_cursor where open and not started), 0)::double precision;
    return query select 'webhooks_waiting', '', (select count(*) from webhook where due_at is not null)::double precision;
end $$;
comment on function figures() is
    'Figures for monitoring: jobs by state, items of active jobs by status, rows ever added to item, leases, workers, age of the oldest waiting job, undelivered webhooks.';
grant execute on function figures() to nightshift_scheduler;

reset search_path;
reset role;
