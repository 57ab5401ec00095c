-- What workers say of their leases: progress, results, ends; and what becomes of a shard, its items and its costs when an attempt ends.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create or replace function artifacts_of(role text, key text, bytes bigint, sha256 bytea, more artifact[]) returns artifact[]
language sql immutable parallel safe as $$
    select case when key is not null then array[(role, key, bytes, sha256)::nightshift.artifact] || coalesce(more, '{}') end
$$;
comment on function artifacts_of(text, text, bigint, bytea, artifact[]) is 'All objects of an item, the primary one first; null when it has none.';
grant execute on function artifacts_of(text, text, bigint, bytea, artifact[]) to nightshift_tenant;

create or replace function artifacts_json(stored artifact[]) returns jsonb language sql immutable parallel safe as $$
    select coalesce(jsonb_agg(jsonb_build_object('role', role, 'key', key, 'bytes', bytes, 'sha256', encode(sha256, 'hex'))), '[]')
    from unnest(stored)
$$;
comment on function artifacts_json(artifact[]) is 'Objects of an item as JSON, sha256 in hex.';
grant execute on function artifacts_json(artifact[]) to nightshift_tenant;

create or replace function fingerprint_id_of(wanted text) returns smallint language plpgsql as $$
declare
    v_id smallint;
begin
    insert into fingerprint (sha256) select wanted where not exists (select from fingerprint where sha256 = wanted) on conflict do nothing;
    select id into v_id from fingerprint where sha256 = wanted;
    return v_id;
end $$;
comment on function fingerprint_id_of(text) is 'Id of a fingerprint, stored when new.';

-- A lease that runs out leaves the shard with a new token and its last worker: who guesses that token must not hear "done", as if
-- it had ended the lease itself. Only the token of the attempt was ever given to a worker.
create or replace function ended_already(wanted_worker bigint, wanted_job bigint, wanted_shard int, wanted_token bigint, into_states shard_state[]) returns boolean
language plpgsql stable as $$
begin
    return exists (select from shard s join worker w on w.id = s.worker_id
            join attempt a on a.job_id = s.job_id and a.shard_no = s.shard_no and a.attempt = s.attempt
        where s.job_id = wanted_job and s.shard_no = wanted_shard and s.token = wanted_token and s.worker_id = wanted_worker
            and w.login = session_user and s.state = any (into_states) and a.token = wanted_token);
end $$;
comment on function ended_already(bigint, bigint, int, bigint, shard_state[]) is 'Whether a call is the repetition of one that succeeded.';

-- A loss with known items in the engine spends no attempt of the shard: the others must survive it. Each is held against an item, and an
-- item bears three; so it ends. A worker that does not know how to run an item alone reports others beside it: such a loss counts as before.
create or replace function weigh_loss(inout s shard, inout message text) language plpgsql as $$
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

create or replace function bury_items(s shard, why_code text, why text) returns shard language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_n int;
begin
    insert into item (job_id, index, finished_at, tenant_id, shard_no, status, attempt, error_code, error_message)
        select s.job_id, i, clock(), s.tenant_id, s.shard_no, 'failed', 0, why_code, why from generate_series(s.first_item, s.end_item - 1) i
        on conflict do nothing;
    get diagnostics v_n = row_count;
    s.n_failed := s.n_failed + v_n;
    return s;
end $$;
comment on function bury_items(shard, text, text) is 'A shard is out of attempts: its unfinished items become failed items.';

-- Deferred: when it runs, whoever ended the lease has written everything. That caller holds the shard and its cursor.
create or replace function bury_unwanted() returns trigger language plpgsql security definer set search_path = nightshift, pg_temp as $$
declare
    v_class text := class_of(new.outcome, new.code);
    v_shard shard;
begin
    if not exists (select from job where id = new.job_id and not v_class = any (retry_classes)) then
        return null;
    end if;
    perform from job_cursor where job_id = new.job_id for update;
    select * into v_shard from shard where job_id = new.job_id and shard_no = new.shard_no and state = 'waiting' and attempt = new.attempt for update;
    if not found then
        return null;
    end if;
    if v_shard.kind = 'items' then
        v_shard := bury_items(v_shard, new.code, new.message);
    end if;
    update shard set state = 'dead', ready_at = null, finished_at = clock(), n_failed = v_shard.n_failed
        where job_id = v_shard.job_id and shard_no = v_shard.shard_no;
    perform fold(v_shard, 1);
    perform note(v_shard.tenant_id, v_shard.job_id, v_shard.shard_no, v_shard.worker_id, 'shard_dead',
        format('shard %s is not tried again: retry.errors does not name %s', v_shard.shard_no, v_class));
    if not settle_job(v_shard.job_id) then
        perform mark_job(v_shard.job_id);
    end if;
    return null;
end $$;
comment on function bury_unwanted() is 'Trigger: a failure of a class that is not tried again ends its shard.';
drop trigger if exists attempt_bury_unwanted on attempt;
create constraint trigger attempt_bury_unwanted after update of outcome on attempt deferrable initially deferred for each row
    when (new.outcome in ('failed', 'lost')) execute function bury_unwanted();

create or replace function settle_charge(tenant int, job bigint, ms bigint) returns void language plpgsql as $$
begin
    perform from share where tenant_id = tenant for update skip locked;
    if found then
        perform charge(tenant, ms);
        update job_cursor set unsettled_ms = unsettled_ms - ms where job_id = job;
    end if;
end $$;
comment on function settle_charge(int, bigint, bigint) is 'Charges what shards took beyond their charge at claim. The caller holds the cursor.';

-- Ends a lease: `outcome` is what the worker says; a job being cancelled ends the shard with it.
-- The shard row is locked and `s` carries the new counts. Also used for leases that ran out.
-- Without `settle` the charge is left to the next claim or tick: who goes on to another cursor must not hold the tenant's share.
create or replace function end_lease(s shard, outcome attempt_outcome, code text, message text, settle boolean default true) returns void
language plpgsql as $$
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
comment on function end_lease(shard, attempt_outcome, text, text, boolean) is 'Ends an attempt and moves its shard on.';

create or replace function report(worker bigint, calls jsonb) returns text[]
language plpgsql security definer set search_path = nightshift, pg_temp set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
    v record;
    v_answers text[] := array_fill(null::text, array[jsonb_array_length(calls)]);
    v_answer text;
begin
    if jsonb_array_length(calls) > 64 then
        perform refuse(format('%s leases in one report, more than 64', jsonb_array_length(calls)));
    end if;
    -- All leased rows before any cursor, jobs in order: the order of README.md holds for the whole transaction.
    perform from shard s join jsonb_to_recordset(calls) as c (job bigint, shard int) on s.job_id = c.job and s.shard_no = c.shard
        where s.state = 'leased' and s.worker_id = report.worker order by s.job_id, s.shard_no for update of s;
    for v in
        select c.*, row_number() over () as place from rows from (jsonb_to_recordset(calls) as (what text, job bigint, shard int, token bigint,
            items jsonb, in_flight jsonb, log text, health jsonb, code text, message text)) c
        order by job, shard
    loop
        v_answer := case v.what
            when 'progress' then progress(worker, v.job, v.shard, v.token, coalesce(v.items, '[]'),
                coalesce((select array_agg(i::bigint) from jsonb_array_elements_text(v.in_flight) i), '{}'), v.log, v.health)
            when 'finish' then case when finish(worker, v.job, v.shard, v.token, coalesce(v.items, '[]'), v.log) then 'done' else 'stop' end
            when 'release' then case when release(worker, v.job, v.shard, v.token, coalesce(v.items, '[]'), v.log) then 'done' else 'stop' end
            when 'fail' then case when fail(worker, v.job, v.shard, v.token, v.code, v.message, coalesce(v.items, '[]'), v.log) then 'done' else 'stop' end
        end;
        if v_answer is null then
            perform refuse(format('report cannot read what = %L', v.what), 'use progress, finish, release or fail');
        end if;
        v_answers[v.place] := v_answer;
    end loop;
    return v_answers;
end $$;
comment on function report(bigint, jsonb) is
    'Up to 64 calls of progress, finish, release and fail in one transaction: [{"what", "job", "shard", "token", "items", ...}]. An answer each, in order: that of progress, else done, or stop when the lease is lost.';
grant execute on function report(bigint, jsonb) to nightshift_worker;

create or replace function report(worker bigint, health jsonb, what text[], job bigint[], shard int[], token bigint[], in_flight text[], log text[], code text[],
    message text[], n_items int[], index bigint[], status text[], item_id bytea[], seed bigint[], fingerprint text[], error_code text[],
    error_message text[], role text[], key text[], bytes bigint[], sha256 bytea[], gpu_ms int[], tokens int[], steps int[], more jsonb[], info jsonb[]) returns text[]
language plpgsql security definer set search_path = nightshift, pg_temp set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_bitmapscan = off set lock_timeout = '250ms' as $$
#variable_conflict use_column
declare
    v_n int := coalesce(cardinality(what), 0);
    v_now timestamptz := clock();
    v_answers text[] := array_fill(null::text, array[v_n]);
    v_order int[] := '{1}';
    v_ends int[] := '{}'; -- of the items of each call
    v_end int := 0;
    w record;
    s shard;
    j record;
    v record;
    i int;
    a int;
    b int;
    v_grew boolean;
    v_fingerprint_id smallint;
    v_fingerprint text;
begin
    select u.drain, u.seen_at, u.health into w from worker u where u.id = report.worker and u.login = session_user;
    if not found then
        return array_fill('stop'::text, array[v_n]);
    elsif v_n > 64 then
        perform refuse(format('%s leases in one report, more than 64', v_n));
    elsif v_n > 1 then
        -- All leased rows before any cursor, jobs in order: the order of README.md holds for the whole transaction.
        perform from shard x join (select unnest(report.job) as job_id, unnest(report.shard) as shard_no) c using (job_id, shard_no)
            where x.state = 'leased' and x.worker_id = report.worker order by job_id, shard_no for update of x;
        v_order := array(select c.place from (select unnest(report.job) as job_id, unnest(report.shard) as shard_no, generate_subscripts(report.job, 1) as place) c
            order by job_id, shard_no, place);
    end if;
    for i in 1 .. v_n loop
        if n_items[i] > 10000 then
            perform refuse(format('%s items in one report, more than 10000', n_items[i]));
        end if;
        v_end := v_end + n_items[i];
        v_ends[i] := v_end;
    end loop;
    if v_end > 0 then
        -- Nearly always all items have the fingerprint of the first.
        select f.id, f.sha256 into v_fingerprint_id, v_fingerprint from fingerprint f where f.sha256 = report.fingerprint[1];
    end if;
    foreach i in array v_order loop
        exit when i > v_n;
        -- The fence of every write of a worker, and its renewal.
        if what[i] = 'progress' and n_items[i] = 0 then
            update shard x set leased_until = v_now + x.lease_ms * interval '1 millisecond', in_flight = coalesce(report.in_flight[i]::bigint[], '{}')
                where x.job_id = report.job[i] and x.shard_no = report.shard[i] and x.token = report.token[i] and x.worker_id = report.worker
                    and x.state = 'leased' and x.leased_until > clock()
                returning x.* into s;
        else
            select x.* into s from shard x
                where x.job_id = report.job[i] and x.shard_no = report.shard[i] and x.token = report.token[i] and x.worker_id = report.worker
                    and x.state = 'leased' and x.leased_until > clock()
                for update;
        end if;
        if not found then
            -- A repeated call whose first reply was lost has left the lease already.
            v_answers[i] := case when ended_already(report.worker, report.job[i], report.shard[i], report.token[i], (case what[i]
                when 'finish' then '{finished}' when 'release' then '{waiting,finished,cancelled}'
                when 'fail' then '{waiting,dead,finished,cancelled}' else '{}' end)::shard_state[]) then 'done' else 'stop' end;
            continue;
        end if;
        if log[i] <> '' and log[i] is distinct from (select l.text from attempt_log l
                where l.job_id = s.job_id and l.shard_no = s.shard_no and l.attempt = s.attempt order by l.id desc limit 1) then
            insert into attempt_log (job_id, shard_no, attempt, tenant_id, text) values (s.job_id, s.shard_no, s.attempt, s.tenant_id, log[i]);
        end if;
        v_grew := false;
        if n_items[i] > 0 then
            a := v_ends[i] - n_items[i] + 1;
            b := v_ends[i];
            with given as (
                select unnest(report.index[a:b]) as index, unnest(report.status[a:b]) as status, unnest(report.item_id[a:b]) as item_id,
                    unnest(report.seed[a:b]) as seed, unnest(report.fingerprint[a:b]) as fingerprint,
                    unnest(report.error_code[a:b]) as error_code, unnest(report.error_message[a:b]) as error_message,
                    unnest(report.role[a:b]) as role, unnest(report.key[a:b]) as key, unnest(report.bytes[a:b]) as bytes,
                    unnest(report.sha256[a:b]) as sha256, unnest(report.gpu_ms[a:b]) as gpu_ms, unnest(report.tokens[a:b]) as tokens,
                    unnest(report.steps[a:b]) as steps, unnest(report.more[a:b]) as more, unnest(report.info[a:b]) as info
            ), stored as (
                -- What is there already stays as it is.
                insert into item (job_id, index, finished_at, seed, bytes, tenant_id, shard_no, status, gpu_ms, tokens, steps, attempt, fingerprint_id,
                    item_id, sha256, role, key, more, error_code, error_message, info)
                select s.job_id, g.index, v_now, g.seed, g.bytes, s.tenant_id, s.shard_no, g.status::item_status, g.gpu_ms, g.tokens, g.steps, s.attempt,
                    case when g.fingerprint = v_fingerprint then v_fingerprint_id when g.fingerprint is not null then fingerprint_id_of(g.fingerprint) end,
                    g.item_id, g.sha256, g.role, g.key,
                    case when g.more is not null then (select array_agg((o.role, o.key, o.bytes, decode(o.sha256, 'hex'))::artifact)
                        from jsonb_to_recordset(g.more) as o (role text, key text, bytes bigint, sha256 text)) end,
                    g.error_code, g.error_message, nullif(g.info, 'null')
                from given g where s.kind = 'items' and g.index >= s.first_item and g.index < s.end_item
                on conflict do nothing
                returning status, gpu_ms
            )
            select count(*) filter (where status = 'ok') as n_ok, count(*) filter (where status = 'failed') as n_failed,
                    count(*) filter (where status = 'skipped') as n_skipped, coalesce(sum(gpu_ms), 0) as gpu_ms, count(*) as n
                into v from stored;
            if v.n <> n_items[i] then -- repeated ones, or some of another shard
                select count(*) into v.n from unnest(report.index[a:b]) as g
                    where s.kind = 'items' and g >= s.first_item and g < s.end_item;
                if v.n <> n_items[i] then
                    perform refuse(format('%s of %s reported items lie outside of shard %s of job %s', n_items[i] - v.n, n_items[i], s.shard_no, s.job_id));
                end if;
            end if;
            s.n_ok := s.n_ok + v.n_ok;
            s.n_failed := s.n_failed + v.n_failed;
            s.n_skipped := s.n_skipped + v.n_skipped;
            s.gpu_ms := s.gpu_ms + v.gpu_ms;
            v_grew := v.n_failed > 0 or v.gpu_ms > 0;
        end if;
        if what[i] = 'progress' then
            if n_items[i] > 0 then
                update shard x set leased_until = v_now + x.lease_ms * interval '1 millisecond', n_ok = s.n_ok, n_failed = s.n_failed,
                    n_skipped = s.n_skipped, gpu_ms = s.gpu_ms, in_flight = coalesce(report.in_flight[i]::bigint[], '{}')
                    where x.job_id = s.job_id and x.shard_no = s.shard_no;
            end if;
            select k.state, k.max_failed_items is not null or k.max_gpu_ms is not null as limited,
                k.time_window ->> 'when_closes' is distinct from 'overrun' and k.closes_at <= v_now as closed into j from job k where k.id = s.job_id;
            if j.limited and v_grew and j.state in ('ready', 'paused') then
                perform from job_cursor c where c.job_id = s.job_id for update;
                perform settle_job(s.job_id);
                select k.state into j.state from job k where k.id = s.job_id;
            end if;
            v_answers[i] := case when j.state in ('ready', 'closing') and not w.drain and not s.preempt and not (j.closed and j.state = 'ready') then 'continue'
                when j.state in ('ready', 'closing', 'paused') then 'drain' else 'cancelled' end;
        elsif what[i] = 'finish' then
            if s.kind = 'items' and s.n_ok + s.n_failed + s.n_skipped < s.end_item - s.first_item then
                perform refuse(format('shard %s of job %s has %s of %s items', s.shard_no, s.job_id, s.n_ok + s.n_failed + s.n_skipped,
                    s.end_item - s.first_item), 'report all of them, or release the shard');
            end if;
            perform end_lease(s, 'finished', null, null, i = v_order[v_n]);
            v_answers[i] := 'done';
        elsif what[i] = 'release' then
            perform end_lease(s, 'released', null, null, i = v_order[v_n]);
            v_answers[i] := 'done';
        elsif what[i] = 'fail' then
            perform end_lease(s, 'failed', coalesce(nullif(code[i], ''), 'unknown'), message[i], i = v_order[v_n]);
            v_answers[i] := 'done';
        else
            perform refuse(format('report cannot read what = %L', what[i]), 'use progress, finish, release or fail');
        end if;
    end loop;
    -- Who holds none of these leases is believed nothing.
    if v_answers <> array_fill('stop'::text, array[v_n])
        and (w.seen_at < v_now - interval '1 second' or report.health is distinct from w.health and report.health is not null) then
        -- Last, as in claim: who holds this row waits for nothing.
        update worker u set seen_at = v_now, health = coalesce(report.health, u.health) where u.id = report.worker;
    end if;
    return v_answers;
end $$;
comment on function report(bigint, jsonb, text[], bigint[], int[], bigint[], text[], text[], text[], text[], int[], bigint[], text[], bytea[], bigint[], text[], text[], text[], text[], text[], bigint[], bytea[], int[], int[], int[], jsonb[], jsonb[]) is
    'Up to 64 calls of progress, finish, release and fail in one transaction, and their items (n_items each), all as columns. An answer each, in order: continue, drain, cancelled; stop when the lease is lost; done.';
grant execute on function report(bigint, jsonb, text[], bigint[], int[], bigint[], text[], text[], text[], text[], int[], bigint[], text[], bytea[], bigint[], text[], text[], text[], text[], text[], bigint[], bytea[], int[], int[], int[], jsonb[], jsonb[]) to nightshift_worker;

-- The calls of one lease with JSON, for SQL by hand and for older programs.
create or replace function report_json(worker bigint, what text, job bigint, shard int, token bigint, items jsonb, in_flight bigint[], log text, code text, message text,
    health jsonb) returns text
language plpgsql as $$
declare
    c record;
begin
    select array_agg(x.index) as index, array_agg(x.status) as status, array_agg(decode(x.item_id, 'hex')) as item_id, array_agg(x.seed) as seed,
        array_agg(x.fingerprint) as fingerprint, array_agg(x.error_code) as error_code, array_agg(x.error_message) as error_message,
        array_agg(x.artifacts #>> '{0,role}') as role, array_agg(x.artifacts #>> '{0,key}') as key,
        array_agg((x.artifacts #>> '{0,bytes}')::bigint) as bytes, array_agg(decode(x.artifacts #>> '{0,sha256}', 'hex')) as sha256,
        array_agg(x.gpu_ms) as gpu_ms, array_agg(x.tokens) as tokens, array_agg(x.steps) as steps,
        array_agg(case when jsonb_array_length(x.artifacts) > 1 then x.artifacts - 0 end) as more, array_agg(x.info) as info into c
        from jsonb_to_recordset(items) as x (index bigint, status text, item_id text, seed bigint, fingerprint text, error_code text, error_message text,
            artifacts jsonb, gpu_ms int, tokens int, steps int, info jsonb);
    return (report(worker, health, array[what], array[job], array[shard], array[token], array[in_flight::text], array[log], array[code], array[message],
        array[coalesce(cardinality(c.index), 0)], c.index, c.status, c.item_id, c.seed, c.fingerprint, c.error_code, c.error_message, c.role, c.key,
        c.bytes, c.sha256, c.gpu_ms, c.tokens, c.steps, c.more, c.info))[1];
end $$;
comment on function report_json(bigint, text, bigint, int, bigint, jsonb, bigint[], text, text, text, jsonb) is
    'report of one lease, its items as JSON.';

create or replace function progress(worker bigint, job bigint, shard int, token bigint, items jsonb default '[]', in_flight bigint[] default '{}',
    log text default null, health jsonb default null) returns text
language plpgsql security definer set search_path = nightshift, pg_temp as $$
begin
    return report_json(worker, 'progress', job, shard, token, items, in_flight, log, null, null, health);
end $$;
comment on function progress(bigint, bigint, int, bigint, jsonb, bigint[], text, jsonb) is
    'Heartbeat, results, fence check, cancel and drain poll in one. Says continue; stop: the lease is lost, nothing was stored; drain: finish what is in the slots and release; cancelled: drop it and release.';
grant execute on function progress(bigint, bigint, int, bigint, jsonb, bigint[], text, jsonb) to nightshift_worker;

create or replace function finish(worker bigint, job bigint, shard int, token bigint, items jsonb default '[]', log text default null) returns boolean
language plpgsql security definer set search_path = nightshift, pg_temp as $$
begin
    return report_json(worker, 'finish', job, shard, token, items, null, log, null, null, null) = 'done';
end $$;
comment on function finish(bigint, bigint, int, bigint, jsonb, text) is 'Reports the last items and ends the shard. False: the lease is lost.';
grant execute on function finish(bigint, bigint, int, bigint, jsonb, text) to nightshift_worker;

create or replace function release(worker bigint, job bigint, shard int, token bigint, items jsonb default '[]', log text default null) returns boolean
language plpgsql security definer set search_path = nightshift, pg_temp as $$
begin
    return report_json(worker, 'release', job, shard, token, items, null, log, null, null, null) = 'done';
end $$;
comment on function release(bigint, bigint, int, bigint, jsonb, text) is 'Gives the shard back; the attempt costs nothing. False: the lease is lost.';
grant execute on function release(bigint, bigint, int, bigint, jsonb, text) to nightshift_worker;

create or replace function fail(worker bigint, job bigint, shard int, token bigint, code text, message text, items jsonb default '[]', log text default null) returns boolean
language plpgsql security definer set search_path = nightshift, pg_temp as $$
begin
    return report_json(worker, 'fail', job, shard, token, items, null, log, code, message, null) = 'done';
end $$;
comment on function fail(bigint, bigint, int, bigint, text, text, jsonb, text) is
    'Gives the shard up and spends an attempt; out of attempts, its unfinished items fail with this code. False: the lease is lost.';
grant execute on function fail(bigint, bigint, int, bigint, text, text, jsonb, text) to nightshift_worker;

reset search_path;
reset role;
