-- register with labels and memory; claim by priority, share and age.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create function read_worker() returns trigger language plpgsql set search_path = nightshift, pg_temp as $$
begin
    new.labels := coalesce((select array_agg(l.key || '=' || l.value) from jsonb_each_text(case jsonb_typeof(new.info -> 'labels')
        when 'object' then new.info -> 'labels' else '{}' end) l), '{}');
    new.memory_bytes := case when jsonb_typeof(new.info -> 'memory_bytes') = 'number' then (new.info ->> 'memory_bytes')::numeric::bigint else 0 end;
    return new;
end $$;
comment on function read_worker() is 'Trigger: what a worker says about itself in info.labels and info.memory_bytes decides what it may claim.';
create trigger worker_read before insert or update of info on worker for each row execute function read_worker();

drop function lease_waiting(bigint, job, int, int);
drop function lease_new(bigint, job, int, int);

-- The caller holds the cursor. Shards that wait again come first, in order; LIMIT is a constant here because a
-- parameter is planned as a tenth of the table, which costs a sequential scan.
create function lease_waiting(w bigint, c job_cursor, room int, lease int) returns setof shard
language plpgsql set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
begin
    return query with ready as materialized (
        select shard_no from shard where job_id = c.job_id and state = 'waiting' and ready_at <= clock() order by shard_no limit 64
    ), taken as (
        update shard s set state = 'leased', ready_at = null, attempt = s.attempt + 1, token = nextval('lease_token'), worker_id = w,
            lease_ms = lease, leased_until = clock() + lease * interval '1 millisecond', in_flight = '{}', preempt = false
        where s.job_id = c.job_id and s.shard_no = any (array(select shard_no from ready order by shard_no limit room)) returning s.*
    ), history as (
        insert into attempt (job_id, shard_no, attempt, tenant_id, round, token, worker_id, started_at)
            select job_id, shard_no, attempt, tenant_id, c.round, token, w, clock() from taken
    )
    select * from taken;
end $$;
comment on function lease_waiting(bigint, job_cursor, int, int) is 'Leases shards that wait; they were charged when they were carved.';

create function lease_new(w bigint, c job_cursor, room int, lease int, item_ms double precision) returns setof shard
language plpgsql set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    v_n int := least(room, (c.n_items - c.next_item + c.shard_items - 1) / c.shard_items)::int;
begin
    update job_cursor set next_item = least(c.n_items, c.next_item + v_n * c.shard_items::bigint), next_shard = c.next_shard + v_n
        where job_id = c.job_id;
    return query with carved as (
        insert into shard (job_id, shard_no, tenant_id, kind, state, first_item, end_item, token, worker_id, lease_ms, leased_until, attempt, charged_ms)
            select c.job_id, c.next_shard + k, c.tenant_id, 'items', 'leased', c.next_item + k * c.shard_items::bigint,
                least(c.n_items, c.next_item + (k + 1) * c.shard_items::bigint), nextval('lease_token'), w, lease,
                clock() + lease * interval '1 millisecond', 1,
                (least(c.n_items, c.next_item + (k + 1) * c.shard_items::bigint) - c.next_item - k * c.shard_items::bigint) * item_ms
            from generate_series(0, v_n - 1) k
        returning *
    ), history as (
        insert into attempt (job_id, shard_no, attempt, tenant_id, round, token, worker_id, started_at)
            select job_id, shard_no, 1, tenant_id, c.round, token, w, clock() from carved
    )
    select * from carved;
end $$;
comment on function lease_new(bigint, job_cursor, int, int, double precision) is 'Carves shards from the cursor and leases them.';

-- The next job of a lane that this worker can run, its cursor locked; a row of nulls when there is none.
-- Without `wait` a cursor that somebody else holds is passed over.
create function take_cursor(w worker, at_priority int, of_tenant int, wait boolean) returns job_cursor language plpgsql
set search_path = nightshift, pg_temp as $$
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
    return c;
end $$;
comment on function take_cursor(worker, int, int, boolean) is 'Next job of a tenant at a priority for this worker.';

-- A worker with several models goes on with the one it has loaded, unless another job of the lane waits ten minutes longer.
create function take_cursor_of_loaded(w worker, at_priority int, of_tenant int) returns job_cursor language plpgsql
set search_path = nightshift, pg_temp as $$
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
    return c;
end $$;
comment on function take_cursor_of_loaded(worker, int, int) is 'Like take_cursor, only jobs of the model that the worker has loaded.';

-- How many more shards a tenant may have leased. Claims of a tenant with a cap go one after the other; one that would have
-- to wait gets nothing, since it may hold what the other waits for.
create function room_of_tenant(wanted int, room int) returns int language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_share share;
begin
    select * into v_share from share where tenant_id = wanted;
    if v_share.max_gpu_ms is not null and v_share.month_gpu_ms >= v_share.max_gpu_ms
        and v_share.month = date_trunc('month', clock() at time zone 'UTC')::date then
        return 0;
    elsif v_share.max_leased is null then
        return room;
    elsif not pg_try_advisory_xact_lock(hashtext('nightshift.max_leased'), wanted) then
        return 0;
    end if;
    return least(room, v_share.max_leased - (select count(*) from shard where state = 'leased' and tenant_id = wanted));
end $$;
comment on function room_of_tenant(int, int) is 'Hard caps of a tenant.';

create function charge(wanted int, ms double precision) returns void language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_now timestamptz := clock();
    v_month date := date_trunc('month', v_now at time zone 'UTC')::date;
begin
    update share set usage = greatest(0, usage + ms / 1000 * charge_factor(v_now)), month = v_month,
        month_gpu_ms = case when month = v_month then greatest(0, month_gpu_ms + ms) else greatest(0, ms) end
        where tenant_id = wanted;
end $$;
comment on function charge(int, double precision) is 'Charges a tenant for engine time.';

-- One job's worth of leases.
create function claim_from(w worker, c job_cursor, room int, lease int) returns setof shard language plpgsql
set search_path = nightshift, pg_temp as $$
declare
    v_n int := 0;
    v_n_items bigint := c.n_ok + c.n_failed;
    -- Until something was measured, an item counts for ten seconds.
    v_item_ms double precision := case when v_n_items > 0 then greatest(1, c.gpu_ms::double precision / v_n_items) else 10000 end;
    v_shard shard;
begin
    if c.not_before <> '-infinity' or c.next_item >= c.n_items or exists (select from shard where job_id = c.job_id and state = 'waiting') then
        for v_shard in select * from lease_waiting(w.id, c, room, lease) order by shard_no loop
            v_n := v_n + 1;
            return next v_shard;
        end loop;
    end if;
    if v_n < room and c.next_item < c.n_items then
        for v_shard in select * from lease_new(w.id, c, room - v_n, lease, v_item_ms) order by shard_no loop
            v_n := v_n + 1;
            return next v_shard;
        end loop;
    end if;
    if v_n > 0 and (c.pins or not c.started) then
        update job j set started_at = coalesce(j.started_at, clock()), fingerprint_id = coalesce(j.fingerprint_id,
            case when not j.allow_mixed then (select f.id from fingerprint f where f.sha256 = w.models ->> j.model_key) end)
            where j.id = c.job_id;
        perform mark_job(c.job_id);
    elsif v_n < room then
        perform mark_job(c.job_id); -- nothing is left, or it backs off
    end if;
end $$;
comment on function claim_from(worker, job_cursor, int, int) is 'Leases up to room shards of a job whose cursor the caller holds.';

create or replace function claim(worker bigint, n int, lease_ms int, out job_id bigint, out shard_no int, out kind shard_kind, out first_item bigint,
    out end_item bigint, out token bigint, out attempt int)
returns setof record language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    w worker := calling_worker(claim.worker);
    v_room int := least(greatest(claim.n, 0), 64);
    v_room_here int;
    v_priority int;
    v_tenant int;
    v_c job_cursor;
    v_shard shard;
    v_wait boolean;
    v_found boolean;
    v_ms double precision;
    v_charges double precision[] := '{}';
    v_tenants int[] := '{}';
    v_loaded text;
begin
    if w.drain then
        return;
    elsif claim.lease_ms not between 100 and 3600000 then
        perform refuse(format('a lease of %s ms is not between 100 ms and an hour', claim.lease_ms));
    end if;
    for v_priority in select distinct priority from lane order by 1 desc loop
        -- First whatever nobody else is at. That must not pass over a higher priority: before a lower one is looked at, wait
        -- for the others; but only while no cursor is held, since two claims could wait for each other.
        v_wait := false;
        loop
            v_found := false;
            for v_tenant in select l.tenant_id from lane l join share s using (tenant_id) where l.priority = v_priority
                order by s.usage / s.weight, l.tenant_id
            loop
                v_room_here := room_of_tenant(v_tenant, v_room);
                continue when v_room_here <= 0;
                v_c := null;
                if w.loaded is not null and not v_wait and w.models - w.loaded <> '{}' then
                    v_c := take_cursor_of_loaded(w, v_priority, v_tenant);
                end if;
                if v_c.job_id is null then
                    v_c := take_cursor(w, v_priority, v_tenant, v_wait);
                end if;
                continue when v_c.job_id is null;
                v_found := true;
                v_ms := v_c.unsettled_ms;
                for v_shard in select * from claim_from(w, v_c, v_room_here, claim.lease_ms) loop
                    select v_shard.job_id, v_shard.shard_no, v_shard.kind, v_shard.first_item, v_shard.end_item, v_shard.token, v_shard.attempt
                        into job_id, shard_no, kind, first_item, end_item, token, attempt;
                    v_room := v_room - 1;
                    v_ms := v_ms + case when v_shard.attempt = 1 then v_shard.charged_ms else 0 end;
                    v_loaded := v_c.model_key;
                    return next;
                end loop;
                if v_c.unsettled_ms <> 0 then
                    update job_cursor c set unsettled_ms = 0 where c.job_id = v_c.job_id;
                end if;
                v_tenants := v_tenants || v_tenant;
                v_charges := v_charges || v_ms;
                exit when v_room = 0 or v_wait;
            end loop;
            exit when v_room = 0 or (not v_found and (v_wait or v_tenants <> '{}'));
            v_wait := not v_found;
        end loop;
        exit when v_room = 0;
    end loop;
    -- Shares last and in order: a charge waits for nothing that waits for it.
    for v_tenant, v_ms in select t.tenant_id, sum(t.ms) from unnest(v_tenants, v_charges) as t (tenant_id, ms) group by 1 order by 1 loop
        perform charge(v_tenant, v_ms);
    end loop;
    if v_loaded <> coalesce(w.loaded, '') then
        update worker u set loaded = v_loaded where u.id = w.id;
    end if;
end $$;
comment on function claim(bigint, int, int) is
    'Leases up to n (64) shards for lease_ms: by priority, then decayed usage of the tenant over its weight, then age of the job, then shard number. Carves new shards when none waits.';

reset search_path;
reset role;
