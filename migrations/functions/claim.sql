-- Workers: registration, the claim with all that decides it (sizes, shares, caps), and what a worker reads of its lease.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create or replace function register(protocol int, schema int, name text, models jsonb, info jsonb) returns bigint
language plpgsql security definer set search_path = nightshift, pg_temp as $$
declare
    v_ours record;
    v_id bigint;
begin
    select * into v_ours from versions();
    if register.protocol < v_ours.protocol_oldest then
        perform refuse(format('this worker is too old: it speaks protocol %s, the database needs %s or newer', register.protocol, v_ours.protocol_oldest),
            'install the version of nightshift that the scheduler runs', code => 'NSVER');
    elsif register.protocol > v_ours.protocol or register.schema > v_ours.schema then
        perform refuse(format('the database is too old for this worker: it has schema %s and protocol %s, the worker needs schema %s and protocol %s',
            v_ours.schema, v_ours.protocol, register.schema, register.protocol),
            'run `nightshift migrate` with the worker''s version', code => 'NSVER');
    end if;
    if jsonb_typeof(register.models) is distinct from 'object' or register.models = '{}' then
        perform refuse('a worker must name at least one model', 'models: {"name/weights/kv_cache": "fingerprint"}');
    end if;
    insert into fingerprint (sha256) select distinct m.value from jsonb_each_text(register.models) m
        where not exists (select from fingerprint f where f.sha256 = m.value) on conflict do nothing;
    insert into worker (login, name, protocol, schema, models, info)
        values (session_user, register.name, register.protocol, register.schema, register.models, coalesce(register.info, '{}'))
        returning id into v_id;
    return v_id;
end $$;
comment on function register(int, int, text, jsonb, jsonb) is
    'Announces a worker process and compares versions. models: {"name/weights/kv_cache": "fingerprint"}.';
grant execute on function register(int, int, text, jsonb, jsonb) to nightshift_worker;

-- Everyone takes a worker that was silent for a minute for gone.
create or replace function leave(worker bigint) returns boolean language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
begin
    update worker w set seen_at = clock() - interval '61 seconds' where w.id = leave.worker and w.login = session_user;
    return found;
end $$;
comment on function leave(bigint) is
    'A worker says that it ends: it counts as gone at once. Leases that it still has run out by themselves. False: this login registered no such worker.';
grant execute on function leave(bigint) to nightshift_worker;

create or replace function read_worker() returns trigger language plpgsql set search_path = nightshift, pg_temp as $$
begin
    new.labels := coalesce((select array_agg(l.key || '=' || l.value) from jsonb_each_text(case jsonb_typeof(new.info -> 'labels')
        when 'object' then new.info -> 'labels' else '{}' end) l), '{}');
    new.memory_bytes := case when jsonb_typeof(new.info -> 'memory_bytes') = 'number' then (new.info ->> 'memory_bytes')::numeric::bigint else 0 end;
    return new;
end $$;
comment on function read_worker() is 'Trigger: what a worker says about itself in info.labels and info.memory_bytes decides what it may claim.';
create or replace trigger worker_read before insert or update of info on worker for each row execute function read_worker();

create or replace function calling_worker(wanted bigint) returns worker language plpgsql as $$
declare
    v_worker worker;
    v_now timestamptz := clock();
begin
    select * into v_worker from worker where id = wanted and login = session_user;
    if not found then
        perform refuse('the database does not know this worker', 'register again', code => 'NSWRK');
    end if;
    if v_worker.seen_at < v_now - interval '1 second' then
        update worker set seen_at = v_now where id = wanted;
    end if;
    return v_worker;
end $$;
comment on function calling_worker(bigint) is 'The worker, if session_user registered it; notes that it was heard.';

create or replace function slots_of(info jsonb) returns int language plpgsql immutable parallel safe as $$
declare
    v_slots jsonb := info -> 'slots';
begin
    return case when jsonb_typeof(v_slots) = 'number' then least(greatest(v_slots::numeric, 1), 1000) else 1 end;
end $$;
comment on function slots_of(jsonb) is 'Items that a worker has in hand at a time, by what it said at registration.';

create or replace function told_ms(health jsonb, job bigint) returns double precision language plpgsql immutable parallel safe as $$
declare
    v_ms jsonb := health -> 'item_ms' -> job::text;
begin
    return case when jsonb_typeof(v_ms) = 'number' then least(greatest(v_ms::numeric, 1), 1e9) end;
end $$;
comment on function told_ms(jsonb, bigint) is
    'Milliseconds of wall clock that a worker took for each item it drew of a job, all slots together, by its health; null: it has not said.';

-- The time of a shard is that of the worker that claims it, and the worker knows it best: its health says how long it took from one picture
-- to the next, with all its slots and with fetching and storing. Items that were there already or failed without the engine do not count, so
-- a shard of such takes less than a minute, never more. Until the worker has said something of this job its shards are small. What others
-- took is a hint then: a fifth of a minute by their mean, so that a worker five times as slow is in time.
-- Near the end, guided self-scheduling (Polychronopoulos and Kuck 1987), weighted by speed: half of what the claimer's share of the rest is,
-- counted in workers as fast as itself that are at this job or have nothing in hand. Never less than the claimer has slots for.
-- A worker alone shares with nobody. Only the 1,000 workers that registered last are looked at, and only when the rest is 2,048 shards or less.
create or replace function carve_size(w worker, c job_cursor, rest bigint) returns int language plpgsql stable as $$
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
comment on function carve_size(worker, job_cursor, bigint) is
    'Items of the next shard that this worker carves from the rest of this job, whose spec gives no size.';

-- Like a carve, but off a shard that waits. Its items that are final stay with it, and every item after those becomes a shard of its own,
-- but for as many as this worker is to have. A shard that an attempt was lost or failed with stays whole: what it has spent, and what is
-- suspected of it, belongs to all of its items. Whoever finds its row locked passes over it, like lease_waiting.
create or replace function cut_waiting(w worker, c job_cursor) returns void language plpgsql as $$
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
comment on function cut_waiting(worker, job_cursor) is
    'Cuts the next waiting shard of a job down to what this worker is to have; the rest waits as another shard.';

-- For a job whose spec gives no size: that of the shards which this worker carves, or, when nothing is left to carve, cuts.
create or replace function size_shards(w worker, c job_cursor) returns job_cursor language plpgsql as $$
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
comment on function take_cursor(worker, int, int, boolean) is
    'Next job of a tenant at a priority for this worker, with the size of the shards it carves.';

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
comment on function take_cursor_of_loaded(worker, int, int) is 'Like take_cursor, only jobs of the model that the worker has loaded.';

-- How many more shards a tenant may have leased. Claims of a tenant with a cap go one after the other; one that would have
-- to wait gets nothing, since it may hold what the other waits for.
create or replace function room_of_tenant(wanted int, room int) returns int language plpgsql as $$
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

-- A call about several leases locks their rows first. One that a tick takes back at that moment is found waiting, which is no lease any
-- more, but it stays locked until that call ends, and that call may wait for a cursor. So who holds the cursor passes over a waiting shard
-- that is locked: the next claim or tick comes by.
create or replace function lease_waiting(w bigint, c job_cursor, room int, lease int) returns setof shard language plpgsql as $$
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
comment on function lease_waiting(bigint, job_cursor, int, int) is 'Leases shards that wait; they were charged when they were carved.';

-- Usage halves in seven days. Old usage is not rewritten every second: new usage weighs more, which orders tenants in the
-- same way. A double holds this until 2045.
create or replace function charge_factor(at timestamptz) returns double precision language sql immutable parallel safe as $$
    select 2 ^ (extract(epoch from at - timestamptz '2026-01-01 00:00Z')::double precision / 604800)
$$;
comment on function charge_factor(timestamptz) is 'Weight of usage at a time.';

-- Read the clock, which readers may not.
create or replace function usage_now(usage double precision) returns double precision
language sql stable security definer set search_path = nightshift, pg_temp as $$ select usage / charge_factor(clock()) $$;
comment on function usage_now(double precision) is 'A stored usage as decayed engine seconds.';
grant execute on function usage_now(double precision) to nightshift_tenant;

create or replace function charge(wanted int, ms double precision) returns void language plpgsql as $$
declare
    v_now timestamptz := clock();
    v_month date := date_trunc('month', v_now at time zone 'UTC')::date;
    v_usage double precision := ms / 1000 * charge_factor(v_now);
begin
    update share set usage = greatest(0, usage + v_usage), month = v_month,
        month_gpu_ms = case when month = v_month then greatest(0, month_gpu_ms + ms) else greatest(0, ms) end
        where tenant_id = wanted;
end $$;
comment on function charge(int, double precision) is 'Charges a tenant for engine time.';

create or replace function check_share() returns trigger language plpgsql as $$
begin
    if new.weight is null or new.weight <= 0 or new.max_leased < 0 or new.max_gpu_ms < 0 then
        raise exception 'a share has a positive weight and no negative limit';
    end if;
    return new;
end $$;
comment on function check_share() is 'Trigger: looks at what administrators set, not at each charge.';
create or replace trigger share_check before insert or update of weight, max_leased, max_gpu_ms on share for each row execute function check_share();

create or replace function claim(worker bigint, n int, lease_ms int, out job_id bigint, out shard_no int, out kind shard_kind, out first_item bigint,
    out end_item bigint, out token bigint, out attempt int, out alone bigint[]) returns setof record
language plpgsql security definer set search_path = nightshift, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off as $$
#variable_conflict use_column
declare
    w worker;
    v_now timestamptz := clock();
    v_room int := least(greatest(claim.n, 0), 64);
    v_room_here int;
    v_left int;
    v_n int;
    v_end bigint;
    v_until timestamptz;
    v_below bigint := 2147483648;
    v_priority int;
    l record;
    c job_cursor;
    v_pass int;
    v_claiming int := hashtext('nightshift.claim');
    v_waited boolean := false;
    v_found boolean;
    v_item_ms bigint;
    v_ms bigint;
    v_charges bigint[] := '{}';
    v_tenants int[] := '{}';
    v_loaded text;
begin
    -- Like calling_worker, but the row is written last: a report of this worker may hold what this claim waits for.
    select * into w from worker u where u.id = claim.worker and u.login = session_user;
    if not found then
        perform refuse('the database does not know this worker', 'register again', code => 'NSWRK');
    elsif w.drain then
        update worker u set seen_at = v_now where u.id = w.id and u.seen_at < v_now - interval '1 second';
        return;
    elsif claim.lease_ms not between 100 and 3600000 then
        perform refuse(format('a lease of %s ms is not between 100 ms and an hour', claim.lease_ms));
    end if;
    <<priorities>>
    loop
        -- First tenants that nobody else claims from: claims side by side would all take the same one, since none sees the charge
        -- of the others, and would wait for each other's commit to charge it. Then whatever job nobody else is at. That must not pass
        -- over a higher priority: before a lower one is looked at, wait for the others; but only while no cursor is held, since two
        -- claims could wait for each other.
        v_priority := null;
        v_pass := 1;
        loop
            v_found := false;
            for l in select l.priority, l.tenant_id, s.max_leased is not null or s.max_gpu_ms is not null as capped
                from lane l join share s using (tenant_id)
                where l.priority = coalesce(v_priority, (select max(priority) from lane where priority < v_below))
                order by s.usage / s.weight, l.tenant_id
            loop
                v_priority := l.priority;
                v_room_here := case when l.capped then room_of_tenant(l.tenant_id, v_room) else v_room end;
                exit when v_pass = 3 and v_waited;
                continue when v_room_here <= 0 or v_pass = 1 and not pg_try_advisory_xact_lock(v_claiming, l.tenant_id);
                c := null;
                if w.loaded is not null and v_pass < 3 and w.models - w.loaded <> '{}' then
                    c := take_cursor_of_loaded(w, v_priority, l.tenant_id);
                end if;
                if c.job_id is null and v_pass < 3 then
                    c := take_cursor(w, v_priority, l.tenant_id, false);
                elsif c.job_id is null then
                    -- A cursor that is found closed after waiting for it stays locked. Going back gives it up: nobody waits with one in hand.
                    -- One that an earlier pass found closed is in hand all the same, so the wait ends before the server looks for deadlocks.
                    -- Whoever holds a cursor for so long keeps nobody from other jobs: this claim waits no more.
                    begin
                        perform set_config('lock_timeout', '250', true);
                        c := take_cursor(w, v_priority, l.tenant_id, true);
                        if c.job_id is null then
                            raise exception using errcode = 'NSBCK';
                        end if;
                        perform set_config('lock_timeout', '0', true);
                    exception
                        when sqlstate 'NSBCK' then
                            c := null;
                        when lock_not_available then
                            c := null;
                            v_waited := true;
                    end;
                end if;
                continue when c.job_id is null;
                v_found := true;
                v_until := clock() + claim.lease_ms * interval '1 millisecond';
                v_left := v_room_here;
                v_ms := c.unsettled_ms;
                if c.not_before <> '-infinity' or c.next_item >= c.n_items or exists (select from shard s where s.job_id = c.job_id and s.state = 'waiting') then
                    for job_id, shard_no, kind, first_item, end_item, token, attempt, alone in
                        select s.job_id, s.shard_no, s.kind, s.first_item, s.end_item, s.token, s.attempt,
                                array(select i from unnest(s.suspects) i group by i having count(*) > 1 order by i)
                            from lease_waiting(w.id, c, v_left, claim.lease_ms) s order by s.shard_no
                    loop
                        v_left := v_left - 1;
                        return next;
                    end loop;
                end if;
                if v_left > 0 and c.next_item < c.n_items then
                    v_n := least(v_left, (c.n_items - c.next_item + c.shard_items - 1) / c.shard_items);
                    v_end := least(c.n_items, c.next_item + v_n * c.shard_items::bigint);
                    -- Until something was measured, an item counts for ten seconds.
                    v_item_ms := case when c.n_ok + c.n_failed > 0 then greatest(1, c.gpu_ms / (c.n_ok + c.n_failed)) else 10000 end;
                    v_ms := v_ms + (v_end - c.next_item) * v_item_ms;
                    v_left := v_left - v_n;
                    alone := '{}';
                    for job_id, shard_no, kind, first_item, end_item, token, attempt in
                        with moved as (
                            update job_cursor u set next_item = v_end, next_shard = c.next_shard + v_n, unsettled_ms = 0 where u.job_id = c.job_id
                        ), carved as (
                            insert into shard (job_id, shard_no, tenant_id, kind, state, first_item, end_item, token, worker_id, lease_ms,
                                    leased_until, attempt, charged_ms)
                                select c.job_id, c.next_shard + k, c.tenant_id, 'items', 'leased', c.next_item + k * c.shard_items::bigint,
                                    least(v_end, c.next_item + (k + 1) * c.shard_items::bigint), nextval('lease_token'), w.id, claim.lease_ms, v_until, 1,
                                    (least(v_end, c.next_item + (k + 1) * c.shard_items::bigint) - c.next_item - k * c.shard_items::bigint) * v_item_ms
                                from generate_series(0, v_n - 1) k
                            returning job_id, shard_no, kind, first_item, end_item, token, attempt
                        ), history as (
                            insert into attempt (job_id, shard_no, attempt, tenant_id, round, token, worker_id, started_at)
                                select job_id, shard_no, 1, c.tenant_id, c.round, token, w.id, v_now from carved
                        )
                        select * from carved order by shard_no
                    loop
                        return next;
                    end loop;
                elsif c.unsettled_ms <> 0 then
                    update job_cursor u set unsettled_ms = 0 where u.job_id = c.job_id;
                end if;
                if v_left < v_room_here then
                    v_loaded := c.model_key;
                end if;
                if v_left < v_room_here and (c.pins or not c.started) then
                    update job j set started_at = coalesce(j.started_at, v_now), fingerprint_id = coalesce(j.fingerprint_id,
                        case when not j.allow_mixed then (select f.id from fingerprint f where f.sha256 = w.models ->> j.model_key) end)
                        where j.id = c.job_id;
                    perform mark_job(c.job_id);
                elsif v_left > 0 then
                    perform mark_job(c.job_id); -- nothing is left, or it backs off
                end if;
                v_room := v_room - (v_room_here - v_left);
                v_tenants := v_tenants || l.tenant_id;
                v_charges := v_charges || v_ms;
                exit when v_room = 0 or v_pass = 3;
            end loop;
            exit priorities when v_priority is null or v_room = 0;
            continue when v_found and v_pass < 3;
            exit when v_pass = 3 and not v_found or v_pass = 2 and v_tenants <> '{}';
            v_pass := case v_pass when 3 then 2 else v_pass + 1 end;
        end loop;
        v_below := v_priority;
    end loop;
    -- Shares after all cursors and in order: a charge waits for nothing that waits for it.
    if cardinality(v_tenants) = 1 then
        perform charge(v_tenants[1], v_charges[1]);
    else
        for l in select t.tenant_id, sum(t.ms) as ms from unnest(v_tenants, v_charges) as t (tenant_id, ms) group by 1 order by 1 loop
            perform charge(l.tenant_id, l.ms);
        end loop;
    end if;
    if v_loaded <> coalesce(w.loaded, '') or w.seen_at < v_now - interval '1 second' then
        update worker u set seen_at = greatest(u.seen_at, v_now), loaded = coalesce(v_loaded, u.loaded) where u.id = w.id;
    end if;
end $$;
comment on function claim(bigint, int, int) is
    'Leases up to n (64) shards for lease_ms: by priority, share of the tenant, age of the job, shard number. Carves new shards when none waits. alone: items that must run with nothing else in the engine.';
grant execute on function claim(bigint, int, int) to nightshift_worker;

-- Whether this is a live lease of session_user; reads only.
create or replace function has_lease(wanted_worker bigint, wanted_job bigint, wanted_shard int, wanted_token bigint) returns boolean
language plpgsql stable as $$
begin
    return exists (select from shard s join worker w on w.id = s.worker_id
        where s.job_id = wanted_job and s.shard_no = wanted_shard and s.token = wanted_token and s.worker_id = wanted_worker
            and s.state = 'leased' and s.leased_until > clock() and w.login = session_user);
end $$;
comment on function has_lease(bigint, bigint, int, bigint) is 'Whether a lease is live and belongs to session_user.';

create or replace function job_info(worker bigint, job bigint, shard int, token bigint) returns jsonb
language sql stable security definer set search_path = nightshift, pg_temp as $$
    select jsonb_build_object('job', j.id, 'name', j.name, 'tenant', t.name, 'kind', j.kind, 'resolved', r.body::jsonb, 'spec_text', d.body,
        'spec_sha256', encode(d.sha256, 'hex'), 'dest', j.dest, 'round', j.round, 'n_items', j.n_items, 'n_rows', j.n_rows,
        'run_date', j.run_date, 'run_index', j.run_index, 'submitted_unix_ms', floor(extract(epoch from j.submitted_at) * 1000)::bigint,
        'input_prefixes', t.input_prefixes, 'dest_prefixes', t.dest_prefixes, 'fingerprint', f.sha256)
    from job j join tenant t on t.id = j.tenant_id join document d on d.id = j.spec_id join document r on r.id = j.resolved_id
        left join fingerprint f on f.id = j.fingerprint_id
    where j.id = job_info.job and has_lease(job_info.worker, job_info.job, job_info.shard, job_info.token)
$$;
comment on function job_info(bigint, bigint, int, bigint) is 'What a worker needs to know of a job; null when the lease is lost.';
grant execute on function job_info(bigint, bigint, int, bigint) to nightshift_worker;

create or replace function inputs(worker bigint, job bigint, shard int, token bigint, from_row bigint, to_row bigint) returns table (first_row bigint, n_rows int, data bytea)
language plpgsql stable security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
begin
    if not has_lease(inputs.worker, inputs.job, inputs.shard, inputs.token) then
        perform refuse('the lease was lost', code => 'NSLST');
    end if;
    return query select c.first_row, c.n_rows, c.data from input_chunk c
        where c.job_id = inputs.job and c.first_row > inputs.from_row - 1000 and c.first_row < inputs.to_row
            and c.first_row + c.n_rows > inputs.from_row
        order by c.first_row;
end $$;
comment on function inputs(bigint, bigint, int, bigint, bigint, bigint) is 'Chunks that hold input rows from_row (included) to to_row (excluded).';
grant execute on function inputs(bigint, bigint, int, bigint, bigint, bigint) to nightshift_worker;

create or replace function finished(worker bigint, job bigint, shard int, token bigint, after_index bigint, "limit" int) returns table (index bigint, status text, item_id text, seed bigint, shard_no int, attempt int, worker_id bigint, error_code text, error_message text,
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
comment on function finished(bigint, bigint, int, bigint, bigint, int) is
    'Final items of the range of the lease (close: of the whole job) after an index, at most limit (10,000).';
grant execute on function finished(bigint, bigint, int, bigint, bigint, int) to nightshift_worker;

reset search_path;
reset role;
