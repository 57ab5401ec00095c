-- Suspects: one poison input takes neither a job nor a fleet of workers down.
--
-- An item that was in the engine when its attempt was lost is a suspect; after two such losses it runs alone, and a third loss, alone,
-- fails it as kills_worker. The suspects of a shard are an array of its row, an index once for each loss. They are no shards of their own:
-- a split would have to move rows of item and what they say of attempts, and a shard finishes all the same while one of its items runs
-- alone. Only a lost attempt reads or writes them, and the claim of a shard that waits.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

alter table shard add column suspects bigint[];
comment on column shard.suspects is 'Items that were in the engine in lost attempts, once for each loss; null: none. Twice: it is to run alone.';
comment on column shard.n_lost_attempts is 'Attempts of this round whose lease ran out, except those that are held against suspects.';
comment on column item.attempt is 'Attempt that reported it; 0 when the store failed it: its shard ran out of attempts, or it kills workers.';

-- A loss with known items in the engine spends no attempt of the shard: the others must survive it. Each is held against an item, and an
-- item bears three; so it ends. A worker that does not know how to run an item alone reports others beside it: such a loss counts as before.
create function weigh_loss(inout s shard, inout message text) language plpgsql as $$
declare
    v record;
begin
    select array_agg(distinct i) as known, max(coalesce(cardinality(array_positions(s.suspects, i)), 0)) as losses into v
        from unnest(s.in_flight) i where s.kind = 'items' and i >= s.first_item and i < s.end_item
            and not exists (select from item where job_id = s.job_id and index = i);
    if v.known is null then
        s.n_lost_attempts := s.n_lost_attempts + 1;
        return;
    elsif v.losses >= 2 and cardinality(v.known) = 1 then
        insert into item (job_id, index, finished_at, tenant_id, shard_no, status, attempt, error_code, error_message)
            select s.job_id, v.known[1], clock(), s.tenant_id, s.shard_no, 'failed', 0, 'kills_worker',
                format('three attempts were lost while it was in the engine, the last one (attempt %s, worker %s) while it was there alone; '
                    'look into that worker''s log and at its memory, change the input or the size, and retry with code:kills_worker', s.attempt, s.worker_id);
        s.n_failed := s.n_failed + 1;
        message := format('%s; item %s was alone in the engine and fails as kills_worker', message, v.known[1]);
    else
        s.n_lost_attempts := s.n_lost_attempts + (v.losses >= 2)::int;
        s.suspects := s.suspects || v.known;
        message := format('%s; in the engine: %s', message, array_to_string(v.known[:8], ', ') || case when cardinality(v.known) > 8 then ', ...' else '' end);
    end if;
    s.suspects := (select array_agg(i order by i) from unnest(s.suspects) i
        where not exists (select from item where job_id = s.job_id and index = i));
end $$;
comment on function weigh_loss(shard, text) is 'Holds a lost attempt against the items that were in the engine; without any, against the shard.';

-- Ends a lease: `outcome` is what the worker says; a job being cancelled ends the shard with it.
-- The shard row is locked and `s` carries the new counts. Also used for leases that ran out.
-- Without `settle` the charge is left to the next claim or tick: who goes on to another cursor must not hold the tenant's share.
create or replace function end_lease(s shard, outcome attempt_outcome, code text, message text, settle boolean default true) returns void language plpgsql as $$
declare
    v_job record;
    v_cursor record;
    v_state shard_state := 'waiting';
    v_pause double precision := 0;
    v_now timestamptz := clock();
    v_lost record;
begin
    select state, max_attempts, backoff_ms, max_backoff_ms, jitter into v_job from job where id = s.job_id;
    if outcome = 'lost' then
        select * into v_lost from weigh_loss(s, message);
        s := v_lost.s;
        message := v_lost.message;
    end if;
    if outcome = 'finished' or (s.kind = 'items' and s.n_ok + s.n_failed + s.n_skipped = s.end_item - s.first_item) then
        v_state := 'finished';
    end if;
    if outcome <> 'finished' then
        s.n_failed_attempts := s.n_failed_attempts + (outcome = 'failed')::int;
        if v_state = 'finished' then
            null;
        elsif v_job.state = 'cancelling' then
            v_state := 'cancelled';
            outcome := (case when outcome = 'released' then 'cancelled' else outcome::text end)::attempt_outcome;
        elsif greatest(s.n_failed_attempts, s.n_lost_attempts) >= v_job.max_attempts then
            v_state := 'dead';
            if s.kind = 'items' then
                s := bury_items(s, case when outcome = 'lost' then 'attempts_exhausted' else code end, message);
            end if;
        elsif outcome <> 'released' then
            v_pause := least(v_job.max_backoff_ms, v_job.backoff_ms * 2 ^ (greatest(s.n_failed_attempts, s.n_lost_attempts, 1) - 1))
                * case when v_job.jitter then random() else 1 end;
        end if;
    end if;
    update shard set state = v_state, leased_until = null, in_flight = '{}', n_ok = s.n_ok, n_failed = s.n_failed, n_skipped = s.n_skipped,
        gpu_ms = s.gpu_ms, n_failed_attempts = s.n_failed_attempts, n_lost_attempts = s.n_lost_attempts, preempt = false,
        suspects = case when v_state <> 'finished' then s.suspects end,
        token = case when outcome = 'lost' then nextval('lease_token') else token end,
        ready_at = case when v_state = 'waiting' then v_now + v_pause * interval '1 millisecond' end,
        finished_at = case when v_state <> 'waiting' then v_now end
        where job_id = s.job_id and shard_no = s.shard_no;
    update attempt a set ended_at = v_now, outcome = end_lease.outcome,
        code = case when end_lease.outcome in ('failed', 'lost') then end_lease.code end, message = end_lease.message
        where a.job_id = s.job_id and a.shard_no = s.shard_no and a.attempt = s.attempt;
    if outcome in ('failed', 'lost') then
        perform note(s.tenant_id, s.job_id, s.shard_no, s.worker_id, case when v_state = 'dead' then 'shard_dead'
            when outcome = 'lost' then 'lease_lost' else 'attempt_failed' end, format('attempt %s of shard %s: %s', s.attempt, s.shard_no, message));
    end if;
    if v_state = 'waiting' then
        select unsettled_ms, limited, next_item >= n_items as carved into v_cursor from job_cursor where job_id = s.job_id for update;
    else -- its counts become the job's
        update job_cursor set n_ok = n_ok + s.n_ok, n_failed = n_failed + s.n_failed, n_skipped = n_skipped + s.n_skipped,
            gpu_ms = gpu_ms + s.gpu_ms, unsettled_ms = unsettled_ms + s.gpu_ms - s.charged_ms
            where job_id = s.job_id returning unsettled_ms, limited, next_item >= n_items as carved into v_cursor;
    end if;
    -- A charge that was far off is put right now, unless somebody else is at the tenant's share: nobody waits for it.
    if settle and 2 * abs(v_cursor.unsettled_ms) > s.charged_ms then
        perform settle_charge(s.tenant_id, s.job_id, v_cursor.unsettled_ms);
    end if;
    -- Most shards end while others are still to be carved: nothing is to be settled.
    if v_state = 'waiting' and v_job.state <> 'cancelling' then
        -- What it reported may have brought the job to its limits all the same.
        if not (v_cursor.limited and settle_job(s.job_id)) then
            perform mark_job(s.job_id);
        end if;
    elsif v_cursor.limited or v_cursor.carved or v_job.state <> 'ready' then
        perform settle_job(s.job_id);
    end if;
end $$;

-- Deletes the failed items that `which` names and counts them off their shards, which are ended, so the job's counters
-- move too. Returns how many. One that killed workers runs alone at once.
create or replace function take_back_items(wanted bigint, which text) returns bigint language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_n bigint;
begin
    with gone as (
        delete from item where job_id = wanted and status = 'failed' and case
            when which = 'failed' then true
            when which like 'code:%' then error_code = substr(which, 6)
            else index = which::bigint end
        returning shard_no, index, error_code
    ), per_shard as (
        select shard_no, count(*)::int as n, array_agg(index) filter (where error_code = 'kills_worker') as killers
        from gone group by shard_no
    ), counted as (
        update shard s set n_failed = s.n_failed - p.n, suspects = s.suspects || p.killers || p.killers
        from per_shard p where s.job_id = wanted and s.shard_no = p.shard_no
    )
    select coalesce(sum(n), 0) into v_n from per_shard;
    update job_cursor set n_failed = n_failed - v_n where job_id = wanted;
    return v_n;
end $$;

-- `alone`: items of the lease that are to be in the engine with nothing else.
drop function claim(bigint, int, int);
create function claim(worker bigint, n int, lease_ms int, out job_id bigint, out shard_no int, out kind shard_kind, out first_item bigint,
    out end_item bigint, out token bigint, out attempt int, out alone bigint[])
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

create or replace function versions(out protocol int, out protocol_oldest int, out schema int) language sql immutable parallel safe
    as $$ select 1, 1, 31 $$;

reset search_path;
reset role;
