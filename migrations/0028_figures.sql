-- What a scheduler tells Prometheus about the whole system.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

-- Reads partial indexes and narrow rows of what is open: nothing here grows with what has ended.
create function figures() returns table (name text, label text, value double precision)
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

create or replace function versions(out protocol int, out protocol_oldest int, out schema int) language sql immutable parallel safe
    as $$ select 1, 1, 28 $$;

reset search_path;
reset role;
