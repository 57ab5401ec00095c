-- What a spec says about when a job may run, and which failures are tried again: instants, windows, holds, classes.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

alter table job
    add column not_before timestamptz,
    add column window_closes_at timestamptz not null default 'infinity',
    add column retry_classes text[];
comment on column job.not_before is 'Before this nothing starts; null: any time.';
comment on column job.window_closes_at is 'End of the window that opens_at belongs to; from then on the scheduler computes the next one. -infinity: none was computed yet.';
comment on column job.retry_classes is 'Classes of failed attempts that are tried again (class_of); null: all.';
comment on column job.opens_at is 'Begin of the current or next window, or not_before. Nothing starts before it, also when no scheduler runs.';
comment on column job.closes_at is 'From here on nothing starts: window_closes_at, or, when items in hand are to be finished by then, as much earlier as an item takes.';
create index job_windowed on job (id) where time_window is not null and state in ('ready', 'paused');

insert into legal_move (noun, from_state, to_state) values ('shard', 'waiting', 'dead');

create or replace function planned(term bigint, job bigint, plan jsonb, out outcome text, out words text)
language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    p record;
    v_job job;
    v_rows record;
    v_opens_at timestamptz;
begin
    if not lock_submitted(planned.term, planned.job) then
        outcome := 'gone';
        return;
    end if;
    select * into p from jsonb_to_record(plan) as x (name text, kind text, labels jsonb, resolved jsonb, warnings text, dest text,
        on_existing on_existing, inputs text[], model_key text, allow_mixed boolean, priority int, n_rows bigint, n_items bigint,
        shard_items int, max_attempts int, max_failed_items bigint,
        worker_labels text[], min_memory_bytes bigint, max_gpu_ms bigint, stop_at_unix_ms bigint, after bigint[], time_window jsonb,
        opens_at_unix_ms bigint, closes_at_unix_ms bigint, backoff_ms int, max_backoff_ms int, jitter boolean,
        hold boolean, not_before_unix_ms bigint, retry_classes text[]);
    select count(*) as n, coalesce(sum(c.n_rows), 0) as n_rows, coalesce(max(c.first_row + c.n_rows), 0) as end_row into v_rows
        from input_chunk c where c.job_id = planned.job;
    if v_rows.n_rows <> p.n_rows or v_rows.end_row <> p.n_rows then
        perform refuse(format('the chunks of job %s hold %s rows up to row %s, its plan says %s', planned.job, v_rows.n_rows, v_rows.end_row, p.n_rows));
    end if;
    select * into v_job from job j where j.id = planned.job;
    words := coalesce(after_refusal(v_job.id, v_job.tenant_id, p.after), prefix_refusal(v_job.tenant_id, p.dest, p.inputs),
        take_destination(v_job.id, v_job.tenant_id, p.dest, p.on_existing));
    if words is not null then
        outcome := 'refused';
        return;
    end if;
    -- A window whose hours nobody has computed yet is closed.
    v_opens_at := coalesce(to_timestamp(p.opens_at_unix_ms / 1000.0), case when p.time_window is not null then 'infinity' end::timestamptz,
        to_timestamp(p.not_before_unix_ms / 1000.0), '-infinity');
    update job j set state = (case when p.n_items = 0 then 'closing' else 'ready' end)::job_state, planned_at = clock(), name = p.name,
        kind = p.kind, labels = coalesce(p.labels, '{}'), resolved = p.resolved, warnings = coalesce(p.warnings, ''), dest = p.dest,
        on_existing = p.on_existing, inputs = coalesce(p.inputs, '{}'), model_key = p.model_key, allow_mixed = coalesce(p.allow_mixed, false),
        priority = coalesce(p.priority, 0), n_rows = p.n_rows, n_items = p.n_items, shard_items = p.shard_items,
        max_attempts = p.max_attempts, max_failed_items = p.max_failed_items,
        worker_labels = coalesce(p.worker_labels, '{}'), min_memory_bytes = coalesce(p.min_memory_bytes, 0), max_gpu_ms = p.max_gpu_ms,
        stop_at = to_timestamp(p.stop_at_unix_ms / 1000.0), after = coalesce(p.after, '{}'), time_window = p.time_window,
        opens_at = v_opens_at, closes_at = coalesce(to_timestamp(p.closes_at_unix_ms / 1000.0), 'infinity'),
        window_closes_at = case when p.time_window is null then 'infinity' else coalesce(to_timestamp(p.closes_at_unix_ms / 1000.0), '-infinity') end,
        not_before = to_timestamp(p.not_before_unix_ms / 1000.0), held = j.held or coalesce(p.hold, false), retry_classes = p.retry_classes,
        backoff_ms = coalesce(p.backoff_ms, 1000), max_backoff_ms = coalesce(p.max_backoff_ms, 60000), jitter = coalesce(p.jitter, true)
        where j.id = planned.job;
    perform note(v_job.tenant_id, v_job.id, null, null, 'ready', format('planned: %s items', p.n_items));
    if p.n_items = 0 then
        perform settle_job(v_job.id);
    else
        perform pg_notify('nightshift_work', v_job.id::text);
    end if;
    outcome := 'ready';
end $$;

-- Only earlier jobs, so that no two wait for each other.
create function after_refusal(wanted bigint, tenant int, after bigint[]) returns text language sql stable set search_path = nightshift, pg_temp as $$
    select format('schedule.after: there is no job %s that was submitted before this one; select id, name from nightshift.jobs', a)
        from unnest(after) a where not exists (select from job o where o.id = a and o.tenant_id = tenant and o.id < wanted) limit 1
$$;
comment on function after_refusal(bigint, int, bigint[]) is 'Why a job may not wait for these; null when it may.';

create function windows_due(term bigint) returns table (job_id bigint, time_window jsonb, now_unix_ms bigint, not_before_unix_ms bigint, busy boolean)
language plpgsql security definer set search_path = nightshift, pg_temp as $$
declare
    v_now timestamptz := clock();
begin
    perform check_term(windows_due.term);
    return query select j.id, j.time_window, floor(extract(epoch from v_now) * 1000)::bigint, floor(extract(epoch from j.not_before) * 1000)::bigint,
            j.time_window ->> 'when_closes' is distinct from 'overrun'
                and exists (select from shard s where s.job_id = j.id and s.state = 'leased')
        from job j where j.state in ('ready', 'paused') and j.time_window is not null and j.window_closes_at <= v_now order by j.id limit 1000;
end $$;
comment on function windows_due(bigint) is
    'Jobs whose window has passed, or was never computed. busy: leases of the window that has passed are still to be given back; a later end would keep them.';

create function open_windows(term bigint, windows jsonb) returns void language plpgsql security definer set search_path = nightshift, pg_temp as $$
declare
    w record;
begin
    perform check_term(open_windows.term);
    for w in select * from jsonb_to_recordset(windows) as x (job bigint, opens_unix_ms bigint, closes_unix_ms bigint) order by job loop
        -- Like a tick: whoever holds it comes with the next call.
        perform from job_cursor where job_id = w.job for update skip locked;
        continue when not found;
        update job set opens_at = coalesce(to_timestamp(w.opens_unix_ms / 1000.0), 'infinity'),
            closes_at = coalesce(to_timestamp(w.closes_unix_ms / 1000.0), 'infinity'),
            window_closes_at = coalesce(to_timestamp(w.closes_unix_ms / 1000.0), clock() + interval '1 day')
            where id = w.job and time_window is not null and window_closes_at <= clock();
    end loop;
end $$;
comment on function open_windows(bigint, jsonb) is
    'Stores current or next windows: [{"job", "opens_unix_ms", "closes_unix_ms"}]; no times: it does not open within a year, look again tomorrow.';
grant execute on function windows_due(bigint), open_windows(bigint, jsonb) to nightshift_scheduler;

-- Engine time is shared by the pictures in the making, so a picture is in its slot for about as many times its own as there are slots.
create function item_ms(wanted bigint) returns bigint language sql stable set search_path = nightshift, pg_temp as $$
    select (percentile_disc(0.9) within group (order by i.gpu_ms))::bigint * greatest(1, (
            select max(case when jsonb_typeof(w.info -> 'slots') = 'number' then (w.info ->> 'slots')::numeric end)
            from shard s join worker w on w.id = s.worker_id where s.job_id = wanted and s.state = 'leased'))::bigint
        from (select gpu_ms from item where job_id = wanted and gpu_ms is not null order by index desc limit 100) i
$$;
comment on function item_ms(bigint) is 'How long nine of ten items of a job lately took, in milliseconds; null when none was measured.';

create function narrow_windows() returns void language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_now timestamptz := clock();
    v_job record;
    v_closes_at timestamptz;
begin
    for v_job in
        select j.id, j.opens_at, j.closes_at, j.window_closes_at from job j
        where j.state = 'ready' and j.time_window is not null and j.time_window ->> 'when_closes' = 'pause'
            and j.opens_at <= v_now and j.closes_at > v_now and j.window_closes_at < v_now + interval '6 hours'
            and exists (select from shard s where s.job_id = j.id and s.state = 'leased')
        order by j.id limit 1000
    loop
        v_closes_at := greatest(v_job.opens_at, v_job.window_closes_at - coalesce(item_ms(v_job.id), 0) * interval '1 millisecond');
        if abs(extract(epoch from v_closes_at - v_job.closes_at)) > 1 then
            perform from job_cursor where job_id = v_job.id for update skip locked;
            if found then
                update job set closes_at = v_closes_at where id = v_job.id and closes_at > v_now;
            end if;
        end if;
    end loop;
end $$;
comment on function narrow_windows() is 'Ends a window of the rule pause as much earlier as an item takes, so that none is begun that would last beyond its end.';

create function class_of(outcome attempt_outcome, code text) returns text language sql immutable parallel safe as $$
    select case when outcome = 'lost' then 'worker_lost' when code in ('oom', 'out_of_memory') then 'oom'
        when code in ('storage', 'database', 'spool') then 'storage' else 'other' end
$$;
comment on function class_of(attempt_outcome, text) is 'Class of a failed attempt, as retry.errors of a spec names it.';

-- Deferred: when it runs, whoever ended the lease has written everything. That caller holds the shard and its cursor.
create function bury_unwanted() returns trigger language plpgsql security definer set search_path = nightshift, pg_temp as $$
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
create constraint trigger attempt_bury_unwanted after update of outcome on attempt deferrable initially deferred for each row
    when (new.outcome in ('failed', 'lost')) execute function bury_unwanted();

create or replace function free_dependents() returns void language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_job record;
    v_other record;
begin
    for v_job in select id, after from job where after <> '{}' and state in ('ready', 'paused') and started_at is null order by id limit 1000 loop
        select id, state into v_other from job where id = any (v_job.after) and state in ('rejected', 'cancelled', 'failed') order by id limit 1;
        if found then
            perform from job_cursor where job_id = v_job.id for update skip locked;
            if found and exists (select from job where id = v_job.id and state in ('ready', 'paused')) then
                perform stop_job(v_job.id, format('job %s, which it waits for, is %s', v_other.id, v_other.state));
            end if;
        elsif not waits_for_jobs(v_job.after) and not (select open from job_cursor where job_id = v_job.id) then
            perform from job_cursor where job_id = v_job.id for update skip locked;
            if found then
                perform mark_job(v_job.id);
            end if;
        end if;
    end loop;
end $$;

create or replace function versions(out protocol int, out protocol_oldest int, out schema int) language sql immutable parallel safe
    as $$ select 1, 1, 20 $$;

reset search_path;
reset role;
