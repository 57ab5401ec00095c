-- claim in fewer statements: the usual one reads the worker, the tenants in order and one cursor, carves, and charges.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

-- As for shard in 0017: both rows are written by every claim.
alter table job_cursor drop constraint job_cursor_range;
alter table share
    drop constraint share_weight_positive,
    drop constraint share_max_leased_range,
    drop constraint share_max_gpu_ms_range;

create function check_share() returns trigger language plpgsql as $$
begin
    if new.weight is null or new.weight <= 0 or new.max_leased < 0 or new.max_gpu_ms < 0 then
        raise exception 'a share has a positive weight and no negative limit';
    end if;
    return new;
end $$;
comment on function check_share() is 'Trigger: looks at what administrators set, not at each charge.';
create trigger share_check before insert or update of weight, max_leased, max_gpu_ms on share for each row execute function check_share();

drop function claim_from(worker, job_cursor, int, int);
drop function lease_new(bigint, job_cursor, int, int, double precision);

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

create or replace function claim(worker bigint, n int, lease_ms int, out job_id bigint, out shard_no int, out kind shard_kind, out first_item bigint,
    out end_item bigint, out token bigint, out attempt int)
returns setof record language plpgsql security definer
set search_path = nightshift, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off as $$
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
                continue when v_room_here <= 0 or v_pass = 1 and not pg_try_advisory_xact_lock(v_claiming, l.tenant_id);
                c := null;
                if w.loaded is not null and v_pass < 3 and w.models - w.loaded <> '{}' then
                    c := take_cursor_of_loaded(w, v_priority, l.tenant_id);
                end if;
                if c.job_id is null and v_pass < 3 then
                    c := take_cursor(w, v_priority, l.tenant_id, false);
                elsif c.job_id is null then
                    -- A cursor that is found closed after waiting for it stays locked. Going back gives it up: nobody waits with one in hand.
                    begin
                        c := take_cursor(w, v_priority, l.tenant_id, true);
                        if c.job_id is null then
                            raise exception using errcode = 'NSBCK';
                        end if;
                    exception when sqlstate 'NSBCK' then
                        c := null;
                    end;
                end if;
                continue when c.job_id is null;
                v_found := true;
                v_until := clock() + claim.lease_ms * interval '1 millisecond';
                v_left := v_room_here;
                v_ms := c.unsettled_ms;
                if c.not_before <> '-infinity' or c.next_item >= c.n_items or exists (select from shard s where s.job_id = c.job_id and s.state = 'waiting') then
                    for job_id, shard_no, kind, first_item, end_item, token, attempt in
                        select s.job_id, s.shard_no, s.kind, s.first_item, s.end_item, s.token, s.attempt
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

create or replace function versions(out protocol int, out protocol_oldest int, out schema int) language sql immutable parallel safe
    as $$ select 1, 1, 18 $$;

reset search_path;
reset role;
