-- What the scheduler that leads does with submitted jobs: it keeps its term, stores their plans or rejects them, and opens their windows.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create or replace function lead(holder text, ttl_ms int) returns bigint language plpgsql security definer set search_path = nightshift, pg_temp as $$
declare
    v_term bigint;
begin
    if ttl_ms not between 100 and 3600000 then
        perform refuse(format('a ttl of %s ms is not between 100 ms and an hour', ttl_ms));
    end if;
    update leader l set
        term = l.term + (l.holder <> lead.holder or l.login <> session_user or l.leads_until <= clock())::int,
        holder = lead.holder, login = session_user, leads_until = clock() + ttl_ms * interval '1 millisecond'
        where l.leads_until <= clock() or (l.holder = lead.holder and l.login = session_user)
        returning l.term into v_term;
    return v_term;
end $$;
comment on function lead(text, int) is 'Becomes or stays leader for ttl_ms; the term, or null when another one leads.';
grant execute on function lead(text, int) to nightshift_scheduler;

create or replace function resign(term bigint) returns void language plpgsql security definer set search_path = nightshift, pg_temp as $$
begin
    perform check_term(resign.term);
    update leader set leads_until = clock();
end $$;
comment on function resign(bigint) is 'Gives leadership back at once.';
grant execute on function resign(bigint) to nightshift_scheduler;

-- The share lock keeps a new leader from starting before this transaction ends.
create or replace function check_term(wanted bigint) returns void language plpgsql set search_path = nightshift, pg_temp as $$
begin
    perform from leader where term = wanted and login = session_user and leads_until > clock() for share;
    if not found then
        perform refuse('another scheduler leads now', code => 'NSLDR');
    end if;
end $$;
comment on function check_term(bigint) is 'The fence of every write of a scheduler.';

create or replace function submitted(term bigint, "limit" int) returns table (job_id bigint, tenant text, spec_text text, run_date date, run_index bigint, input_prefixes text[], dest_prefixes text[], scheduled boolean)
language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
begin
    perform check_term(submitted.term);
    return query select j.id, t.name, d.body, j.run_date, j.run_index, t.input_prefixes, t.dest_prefixes, j.schedule_id is not null
        from job j join tenant t on t.id = j.tenant_id join document d on d.id = j.spec_id where j.state = 'submitted' and j.released order by j.id limit submitted."limit";
end $$;
comment on function submitted(bigint, int) is 'Jobs that wait to be planned, oldest first; runs of a schedule when they are due.';
grant execute on function submitted(bigint, int) to nightshift_scheduler;

create or replace function lock_submitted(term bigint, wanted bigint) returns boolean language plpgsql set search_path = nightshift, pg_temp as $$
begin
    perform check_term(lock_submitted.term);
    perform from job where id = wanted and state = 'submitted' for update;
    return found;
end $$;
comment on function lock_submitted(bigint, bigint) is 'Whether a job may be planned by this term.';

create or replace function add_chunk(term bigint, job bigint, first_row bigint, n_rows int, data bytea) returns boolean
language plpgsql security definer set search_path = nightshift, pg_temp set lock_timeout = '250ms' as $$
#variable_conflict use_column
begin
    if not lock_submitted(add_chunk.term, add_chunk.job) then
        return false;
    end if;
    delete from input_chunk c where c.job_id = add_chunk.job and c.first_row >= add_chunk.first_row;
    insert into input_chunk (job_id, first_row, n_rows, data) values (add_chunk.job, add_chunk.first_row, add_chunk.n_rows, add_chunk.data);
    return true;
end $$;
comment on function add_chunk(bigint, bigint, bigint, int, bytea) is
    'Stores gzipped JSON lines of input rows, in order from row 0; what was stored at or after first_row goes. False: not submitted any more.';
grant execute on function add_chunk(bigint, bigint, bigint, int, bytea) to nightshift_scheduler;

-- Jobs whose destination lies below `wanted` or above it.
create or replace function dest_conflicts(for_job bigint, wanted text) returns setof bigint
language sql stable set search_path = nightshift, pg_temp as $$
    select id from job where owns_dest and dest collate "C" >= wanted and dest collate "C" < wanted || chr(1114111) and id <> for_job
    union
    select id from job where owns_dest and id <> for_job and dest collate "C" = any (array(
        select array_to_string((string_to_array(wanted, '/'))[:n], '/') || '/'
        from generate_series(3, cardinality(string_to_array(wanted, '/')) - 1) n))
    order by 1
$$;
comment on function dest_conflicts(bigint, text) is 'Jobs that own a destination which overlaps this one.';

-- The others are over and give their prefix up; the caller sets owns_dest before it commits. One at a time: the lock is held until then.
create or replace function take_destination(for_job bigint, for_tenant int, wanted text, how on_existing) returns refusal
language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_other record;
begin
    lock table destination_turn in exclusive mode;
    for v_other in
        select j.id, j.name, j.state, j.tenant_id, j.dest from dest_conflicts(for_job, wanted) c join job j on j.id = c
    loop
        if v_other.tenant_id <> for_tenant then
            return row('output.dest', format('output.dest: %s overlaps the destination of a job of another tenant', wanted), null)::refusal;
        elsif not is_final(v_other.state) then
            return row('output.dest', format('output.dest: %s overlaps %s, which belongs to job %s (%s), state %s', wanted, v_other.dest, v_other.id,
                v_other.name, v_other.state), 'wait for it, cancel it, or choose another destination')::refusal;
        elsif how = 'refuse' then
            return row('output.dest', format('output.dest: %s overlaps %s, which belongs to job %s (%s), state %s', wanted, v_other.dest, v_other.id,
                v_other.name, v_other.state), 'choose another destination or set output.on_existing to resume or overwrite')::refusal;
        end if;
        update job set owns_dest = false where id = v_other.id;
        perform note(v_other.tenant_id, v_other.id, null, null, 'destination_moved',
            format('job %s took over the destination %s', for_job, wanted));
    end loop;
    return null;
end $$;
comment on function take_destination(bigint, int, text, on_existing) is 'Makes a job the owner of its destination, or says who is.';

-- Only earlier jobs, so that no two wait for each other.
create or replace function after_refusal(wanted bigint, tenant int, after bigint[]) returns refusal
language sql stable set search_path = nightshift, pg_temp as $$
    select ('schedule.after', format('schedule.after: there is no job %s that was submitted before this one', a),
            'select id, name from nightshift.jobs')::refusal
        from unnest(after) a where not exists (select from job o where o.id = a and o.tenant_id = tenant and o.id < wanted) limit 1
$$;
comment on function after_refusal(bigint, int, bigint[]) is 'Why a job may not wait for these; null when it may.';

create or replace function planned(term bigint, job bigint, plan jsonb, out outcome text, out refused refusal)
language plpgsql security definer set search_path = nightshift, pg_temp set lock_timeout = '250ms' as $$
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
    refused := coalesce(after_refusal(v_job.id, v_job.tenant_id, p.after), prefix_refusal(v_job.tenant_id, p.dest, p.inputs),
        take_destination(v_job.id, v_job.tenant_id, p.dest, p.on_existing));
    if (refused).message is not null then
        outcome := 'refused';
        return;
    end if;
    -- A window whose hours nobody has computed yet is closed.
    v_opens_at := coalesce(to_timestamp(p.opens_at_unix_ms / 1000.0), case when p.time_window is not null then 'infinity' end::timestamptz,
        to_timestamp(p.not_before_unix_ms / 1000.0), '-infinity');
    update job j set state = (case when p.n_items = 0 then 'closing' else 'ready' end)::job_state, planned_at = clock(), planned_event = nextval('event_id_seq'), owns_dest = true, name = p.name,
        kind = p.kind, labels = coalesce(p.labels, '{}'), resolved_id = document_of(v_job.tenant_id, p.resolved::text), warnings = coalesce(p.warnings, ''), dest = p.dest,
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
    if p.n_items = 0 then
        perform settle_job(v_job.id);
    else
        perform pg_notify('nightshift_work', v_job.id::text);
    end if;
    outcome := 'ready';
end $$;
comment on function planned(bigint, bigint, jsonb) is
    'Stores a plan. outcome ready; refused, with words to pass to rejected; gone: not submitted any more.';
grant execute on function planned(bigint, bigint, jsonb) to nightshift_scheduler;

create or replace function rejected(term bigint, job bigint, errors text, name text default null, kind text default null) returns boolean
language plpgsql security definer set search_path = nightshift, pg_temp set lock_timeout = '250ms' as $$
#variable_conflict use_column
begin
    if not lock_submitted(rejected.term, rejected.job) then
        return false;
    end if;
    delete from input_chunk c where c.job_id = rejected.job;
    update job j set name = rejected.name, kind = rejected.kind where j.id = rejected.job;
    perform end_job(rejected.job, 'rejected', rejected.errors);
    return true;
end $$;
comment on function rejected(bigint, bigint, text, text, text) is
    'Rejects a job with the mistakes as text; name and kind as far as its spec shows them. False: not submitted any more.';
grant execute on function rejected(bigint, bigint, text, text, text) to nightshift_scheduler;

create or replace function windows_due(term bigint) returns table (job_id bigint, time_window jsonb, now_unix_ms bigint, not_before_unix_ms bigint, busy boolean)
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
grant execute on function windows_due(bigint) to nightshift_scheduler;

create or replace function open_windows(term bigint, windows jsonb) returns void
language plpgsql security definer set search_path = nightshift, pg_temp as $$
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
grant execute on function open_windows(bigint, jsonb) to nightshift_scheduler;

reset search_path;
reset role;
