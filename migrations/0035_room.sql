-- Less room for a job that waits. Its texts are kept once for all jobs of a tenant that have the same; before it is planned its row
-- holds nothing of a plan and it has no cursor; what its row says is not said again by two events.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create table document (
    id int generated always as identity primary key,
    tenant_id int not null references tenant,
    sha256 bytea not null,
    body text not null,
    constraint document_once unique (tenant_id, sha256)
);
alter table document enable row level security;
create policy own on document for select to nightshift_tenant using (tenant_id = any (array(select my_tenants())));
grant select on document to nightshift_tenant;
comment on table document is 'Texts that jobs of a tenant share: specs as submitted and as resolved. Never changed; prune takes away what no job has any more.';
comment on column document.id is 'Identity.';
comment on column document.tenant_id is 'Whose it is: tenants share nothing, so that none can ask what another has.';
comment on column document.sha256 is 'sha256 of body in UTF-8, 32 bytes.';
comment on column document.body is 'YAML of a spec as submitted, or JSON of a resolved one.';

-- Jobs do not reference documents with foreign keys: jobs side by side would all lock the row of the text they share. Instead whoever
-- uses a document holds the lock of those who write to the table until its job is there, and prune holds one that excludes it. Tenants
-- can take neither: anybody may take advisory locks, and keep them.
create function document_of(tenant int, body text) returns int language plpgsql as $$
#variable_conflict use_column
declare
    v_sha256 bytea := sha256(convert_to(document_of.body, 'UTF8'));
    v_id int;
begin
    lock table document in row exclusive mode;
    loop
        select d.id into v_id from document d where d.tenant_id = document_of.tenant and d.sha256 = v_sha256;
        exit when found;
        insert into document (tenant_id, sha256, body) values (document_of.tenant, v_sha256, document_of.body)
            on conflict on constraint document_once do nothing returning id into v_id;
        exit when found; -- else somebody was quicker
    end loop;
    return v_id;
end $$;
comment on function document_of(int, text) is 'Id of the text, stored when the tenant has none like it.';

create function drop_documents() returns void language plpgsql as $$
begin
    lock table document in share row exclusive mode nowait;
    delete from document d where not exists (select from job j where j.spec_id = d.id) and not exists (select from job j where j.resolved_id = d.id);
exception when lock_not_available then
    null; -- somebody submits or plans: the next call does it
end $$;
comment on function drop_documents() is 'Deletes the documents that no job has any more.';

drop view jobs, specs, events;
alter table job
    add column spec_id int,
    add column resolved_id int,
    add column submitted_event bigint,
    add column planned_event bigint,
    add column owns_dest boolean not null default false,
    alter column submitted_by type text;
update job set spec_id = document_of(tenant_id, spec_text), resolved_id = case when resolved is not null then document_of(tenant_id, resolved::text) end;
alter table job
    alter column spec_id set not null,
    drop column spec_text,
    drop column spec_sha256,
    drop column resolved; -- and with it job_plan_whole
comment on column job.spec_id is 'The spec as submitted: a document.';
comment on column job.resolved_id is 'The spec with all defaults filled in: a document.';
comment on column job.submitted_event is 'Id of the event of its submission, which is this row; null when that event was stored.';
comment on column job.planned_event is 'Id of the event of its planning, which is this row; null when that event was stored.';
comment on column job.owns_dest is 'Whether its destination is its own; jobs that own theirs do not overlap: take_destination.';
create unique index job_dest on job (dest collate "C") where owns_dest;
update job j set owns_dest = true where not j.pruned and exists (select from destination d where d.job_id = j.id and d.dest = j.dest);
drop table destination;
-- Rows of jobs that wait fill their pages. That of a running job moves once, to a page with room, and stays there.
alter table job set (fillfactor = 100);
alter table job_cursor set (fillfactor = 95);
-- Among the jobs of one tenant at one priority the primary key has the order that claims ask for too, but with every job that has ended.
-- A sum that only this index knows keeps planners from it, whatever their statistics say.
drop index job_cursor_open;
create index job_cursor_open on job_cursor (priority, tenant_id, (job_id + 0)) where open;
-- Where a reader of all events goes on: ids grow about as rows are laid down.
create index job_event on job using brin (submitted_event, planned_event) with (autosummarize = on);

-- First, so that the trigger of the updates below finds no cursor to copy into.
delete from job_cursor c using job j where j.id = c.job_id and j.planned_at is null;

-- What the plan fills in is null before.
do $$
declare
    c text;
begin
    foreach c in array array['allow_mixed', 'on_existing', 'priority', 'inputs', 'labels', 'warnings', 'worker_labels', 'min_memory_bytes', 'after',
        'opens_at', 'closes_at', 'window_closes_at', 'backoff_ms', 'max_backoff_ms', 'jitter']
    loop
        execute format('alter table job alter column %I drop default, alter column %1$I drop not null', c);
    end loop;
end $$;
update job set allow_mixed = null, on_existing = null, priority = null, inputs = null, labels = null, warnings = null, worker_labels = null,
    min_memory_bytes = null, after = null, opens_at = null, closes_at = null, window_closes_at = null, backoff_ms = null, max_backoff_ms = null, jitter = null
    where planned_at is null;
alter table job add constraint job_plan_whole check (num_nulls(planned_at, name, kind, model_key, dest, n_rows, n_items, shard_items, max_attempts,
    resolved_id, allow_mixed, on_existing, priority, inputs, labels, warnings, worker_labels, min_memory_bytes, after, opens_at, closes_at,
    window_closes_at, backoff_ms, max_backoff_ms, jitter) in (0, 25));
comment on table job_cursor is
    'What moves while a planned job runs. Its row lock is the mutex of the job: whoever claims, ends a shard or changes the state holds it. Before, it is the row of the job.';

create view jobs with (security_invoker = true) as
    select j.id, t.name as tenant, j.name, j.kind, j.state, j.held, waits_for(j.id) as reason, coalesce(j.priority, 0) as priority, j.n_items,
        coalesce(c.n_ok, 0) + open.n_ok as n_ok, coalesce(c.n_failed, 0) + open.n_failed as n_failed,
        coalesce(c.n_skipped, 0) + open.n_skipped as n_skipped,
        open.n_in_flight, open.n_leased, j.dest, j.errors, coalesce(j.warnings, '') as warnings, j.round, coalesce(j.labels, '{}') as labels,
        j.model_key, f.sha256 as fingerprint, j.n_rows, j.submitted_by, j.idempotency_key, j.submitted_at, j.planned_at, j.started_at, j.finished_at
    from job j join tenant t on t.id = j.tenant_id left join job_cursor c on c.job_id = j.id left join fingerprint f on f.id = j.fingerprint_id,
    lateral (
        select coalesce(sum(s.n_ok), 0)::bigint as n_ok, coalesce(sum(s.n_failed), 0)::bigint as n_failed, coalesce(sum(s.n_skipped), 0)::bigint as n_skipped,
            coalesce(sum(cardinality(s.in_flight)), 0)::bigint as n_in_flight, count(*) filter (where s.state = 'leased') as n_leased
        from (select * from shard where job_id = j.id and state = 'leased' union all select * from shard where job_id = j.id and state = 'waiting') s
    ) open;
comment on view jobs is 'Jobs of your tenants; reason says why one does not run.';

create view specs with (security_invoker = true) as
    select j.id as job_id, d.body as spec_text, encode(d.sha256, 'hex') as spec_sha256, r.body::jsonb as resolved, coalesce(j.inputs, '{}') as inputs
    from job j join document d on d.id = j.spec_id left join document r on r.id = j.resolved_id;
comment on view specs is 'Specs as submitted and as resolved (they are long, so they are not in jobs).';

create view events with (security_invoker = true) as
    select e.id, e.at, t.name as tenant, e.job_id, e.shard_no, e.worker_id, e.what, e.message
    from (
        select id, at, tenant_id, job_id, shard_no, worker_id, what, message from event
        union all
        select submitted_event, submitted_at, tenant_id, id, null, null, 'submitted', format('submitted by %s', submitted_by)
            from job where submitted_event is not null
        union all
        select planned_event, planned_at, tenant_id, id, null, null, 'ready', format('planned: %s items', n_items)
            from job where planned_event is not null
    ) e join tenant t on t.id = e.tenant_id;
comment on view events is 'What happened to jobs.';
grant select on jobs, specs, events to nightshift_tenant;

-- Before its plan a job has no cursor: its own row is the mutex.
create or replace function lock_own_job(wanted bigint) returns job language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_job job;
begin
    select * into v_job from job where id = wanted and tenant_id in (select my_tenants());
    if not found then
        perform refuse(format('there is no job %s', wanted), 'select id, name, state from nightshift.jobs', code => 'NSNOF');
    elsif v_job.planned_at is null then
        begin
            select * into v_job from job where id = wanted for update;
            if v_job.planned_at is not null then
                raise exception using errcode = 'NSBCK'; -- gives the row up: a cursor is locked before it
            end if;
            return v_job;
        exception when sqlstate 'NSBCK' then
            null;
        end;
    end if;
    perform from job_cursor where job_id = wanted for update;
    select * into v_job from job where id = wanted;
    return v_job;
end $$;

create or replace function lock_submitted(term bigint, wanted bigint) returns boolean language plpgsql set search_path = nightshift, pg_temp as $$
begin
    perform check_term(lock_submitted.term);
    perform from job where id = wanted and state = 'submitted' for update;
    return found;
end $$;

-- Jobs whose destination lies below `wanted` or above it.
create or replace function dest_conflicts(for_job bigint, wanted text) returns setof bigint language sql stable set search_path = nightshift, pg_temp as $$
    select id from job where owns_dest and dest collate "C" >= wanted and dest collate "C" < wanted || chr(1114111) and id <> for_job
    union
    select id from job where owns_dest and id <> for_job and dest collate "C" = any (array(
        select array_to_string((string_to_array(wanted, '/'))[:n], '/') || '/'
        from generate_series(3, cardinality(string_to_array(wanted, '/')) - 1) n))
    order by 1
$$;

-- Its lock alone matters: who takes a destination holds it. Nobody but the owner can.
create table destination_turn (turn boolean);
alter table destination_turn enable row level security;
comment on column destination_turn.turn is 'Nothing.';
comment on table destination_turn is 'Empty; its lock makes those who take destinations take turns.';

-- The others are over and give their prefix up; the caller sets owns_dest before it commits. One at a time: the lock is held until then.
create or replace function take_destination(for_job bigint, for_tenant int, wanted text, how on_existing) returns text
language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_other record;
begin
    lock table destination_turn in exclusive mode;
    for v_other in
        select j.id, j.name, j.state, j.tenant_id, j.dest from dest_conflicts(for_job, wanted) c join job j on j.id = c
    loop
        if v_other.tenant_id <> for_tenant then
            return format('output.dest: %s overlaps the destination of a job of another tenant', wanted);
        elsif not is_final(v_other.state) then
            return format('output.dest: %s overlaps %s, which belongs to job %s (%s), state %s; wait for it, cancel it, or choose another destination',
                wanted, v_other.dest, v_other.id, v_other.name, v_other.state);
        elsif how = 'refuse' then
            return format('output.dest: %s overlaps %s, which belongs to job %s (%s), state %s; choose another destination or set output.on_existing to resume or overwrite',
                wanted, v_other.dest, v_other.id, v_other.name, v_other.state);
        end if;
        update job set owns_dest = false where id = v_other.id;
        perform note(v_other.tenant_id, v_other.id, null, null, 'destination_moved',
            format('job %s took over the destination %s', for_job, wanted));
    end loop;
    return null;
end $$;

create or replace function end_job(wanted bigint, into_state job_state, why text) returns void language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_tenant int;
begin
    -- Where a cancelled job wrote nothing, others may.
    update job set state = into_state, finished_at = clock(), errors = why,
        owns_dest = owns_dest and (into_state <> 'cancelled' or exists (select from item where job_id = wanted))
        where id = wanted returning tenant_id into v_tenant;
    perform note(v_tenant, wanted, null, null, into_state::text, coalesce(why, 'the job is ' || replace(into_state::text, '_', ' ')));
    perform pg_notify('nightshift_job', wanted::text);
end $$;

create or replace function submit(spec text, tenant text default null, idempotency_key text default null, hold boolean default false)
returns bigint language plpgsql security definer set search_path = nightshift, pg_temp as $body$
#variable_conflict use_column
declare
    v_tenant int;
    v_names text[];
    v_job bigint;
    v_spec int;
    v_earlier record;
begin
    if spec is null or spec !~ '\S' then
        perform refuse('the spec is empty', 'pass the YAML text: select nightshift.submit($$ ... $$)');
    elsif octet_length(spec) > 1048576 then
        perform refuse(format('the spec has %s bytes, more than 1 MiB', octet_length(spec)),
            'put the rows into a manifest and name it in input.manifest');
    end if;
    select array_agg(t.name order by t.name) into v_names from tenant t where t.id in (select my_tenants());
    if v_names is null then
        perform refuse(format('login %s belongs to no tenant', session_user), 'ask an administrator to make it a member of one');
    elsif submit.tenant is null and cardinality(v_names) > 1 then
        perform refuse(format('login %s belongs to several tenants', session_user),
            format('say which: nightshift.submit(..., tenant => %L)', v_names[1]), 'tenants: ' || array_to_string(v_names, ', '));
    elsif submit.tenant is not null and not submit.tenant = any (v_names) then
        perform refuse(format('login %s does not belong to tenant %s', session_user, submit.tenant),
            'name one of its tenants, or leave it out when there is only one', 'tenants: ' || array_to_string(v_names, ', '));
    end if;
    select t.id into v_tenant from tenant t where t.name = coalesce(submit.tenant, v_names[1]);
    v_spec := document_of(v_tenant, spec);
    insert into job as j (tenant_id, held, submitted_by, run_date, idempotency_key, spec_id, submitted_event)
        values (v_tenant, coalesce(submit.hold, false), session_user, (clock() at time zone 'UTC')::date, submit.idempotency_key, v_spec,
            nextval('event_id_seq'))
        on conflict (tenant_id, idempotency_key) where (j.idempotency_key is not null) do nothing
        returning id into v_job;
    if v_job is null then
        select j.id, j.spec_id into v_earlier from job j where j.tenant_id = v_tenant and j.idempotency_key = submit.idempotency_key;
        if v_earlier.spec_id <> v_spec then
            perform refuse(format('idempotency key %s was used with another spec', submit.idempotency_key),
                'use another key, or submit exactly the same text', format('that was job %s', v_earlier.id));
        end if;
        return v_earlier.id;
    end if;
    -- One hint wakes the scheduler for all that wait; a hint for each commit would cost more than the commit.
    if not exists (select from job j where j.state = 'submitted' and j.released and j.id <> v_job) then
        perform pg_notify('nightshift_submitted', v_job::text);
    end if;
    return v_job;
end $body$;

create or replace function submitted(term bigint, "limit" int)
returns table (job_id bigint, tenant text, spec_text text, run_date date, run_index bigint, input_prefixes text[], dest_prefixes text[], scheduled boolean)
language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
begin
    perform check_term(submitted.term);
    return query select j.id, t.name, d.body, j.run_date, j.run_index, t.input_prefixes, t.dest_prefixes, j.schedule_id is not null
        from job j join tenant t on t.id = j.tenant_id join document d on d.id = j.spec_id where j.state = 'submitted' and j.released order by j.id limit submitted."limit";
end $$;

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

create or replace function recur(term bigint, job bigint, name text, cron text, when_still_running text) returns boolean
language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    v_id bigint;
begin
    if not lock_submitted(recur.term, recur.job) then
        return false;
    end if;
    insert into schedule (tenant_id, name, cron, when_still_running, submitted_by, spec_sha256, spec_text)
        select j.tenant_id, recur.name, recur.cron, recur.when_still_running, j.submitted_by, d.sha256, d.body
        from job j join document d on d.id = j.spec_id where j.id = recur.job and j.schedule_id is null returning id into v_id;
    if v_id is not null then
        update job j set schedule_id = v_id, released = false, run_index = 1 where j.id = recur.job;
        perform note(j.tenant_id, j.id, null, null, 'scheduled', format('first run of schedule %s', v_id)) from job j where j.id = recur.job;
    end if;
    return true;
end $$;

create or replace function advance_schedule(term bigint, schedule bigint, seen_unix_ms bigint, next_unix_ms bigint, run_date date) returns boolean
language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    s schedule;
    v_next timestamptz := to_timestamp(advance_schedule.next_unix_ms / 1000.0);
    v_run bigint;
    v_other bigint;
begin
    perform check_term(advance_schedule.term);
    select * into s from schedule x where x.id = advance_schedule.schedule for update;
    if s.state <> 'active' or s.next_due is distinct from to_timestamp(advance_schedule.seen_unix_ms / 1000.0) then
        return false; -- somebody else did it
    end if;
    select j.id into v_run from job j where j.schedule_id = s.id and j.state = 'submitted' and not j.released;
    if v_run is not null then
        perform from job j where j.id = v_run and j.state = 'submitted' for update;
        if not found then
            v_run := null; -- cancelled at this moment: that run is left out
        end if;
    end if;
    if s.next_due is null and v_run is not null then
        update job j set due = v_next, run_date = advance_schedule.run_date where j.id = v_run;
        update schedule x set next_due = v_next where x.id = s.id;
        return true;
    elsif v_run is not null then
        select min(j.id) into v_other from job j where j.schedule_id = s.id and j.id <> v_run and not is_final(j.state);
        if v_other is not null and s.when_still_running = 'wait' then
            return false;
        elsif v_other is not null and s.when_still_running = 'skip' then
            update job j set released = true where j.id = v_run;
            perform end_job(v_run, 'cancelled', null);
            perform note(s.tenant_id, v_run, null, null, 'skipped', format('run %s was due while job %s, an earlier run, was not over', s.n_runs, v_other));
        else
            update job j set released = true where j.id = v_run;
            perform note(s.tenant_id, v_run, null, null, 'due', format('run %s of schedule %s is due', s.n_runs, s.id));
            perform pg_notify('nightshift_submitted', v_run::text);
        end if;
    end if;
    insert into job as j (tenant_id, submitted_by, run_date, run_index, spec_id, schedule_id, due, released)
        values (s.tenant_id, s.submitted_by, advance_schedule.run_date, s.n_runs + 1, document_of(s.tenant_id, s.spec_text), s.id, v_next, false)
        returning id into v_run;
    update schedule x set next_due = v_next, n_runs = s.n_runs + 1 where x.id = s.id;
    perform note(s.tenant_id, v_run, null, null, 'scheduled', format('run %s of schedule %s', s.n_runs + 1, s.id));
    return true;
end $$;

create or replace function remove_schedule(schedule bigint) returns boolean language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    s schedule := lock_own_schedule(remove_schedule.schedule);
    v_run bigint;
begin
    if s.state = 'removed' then
        return false;
    end if;
    update schedule x set state = 'removed' where x.id = s.id;
    for v_run in select j.id from job j where j.schedule_id = s.id and j.state = 'submitted' and not j.released loop
        perform from job j where j.id = v_run and j.state = 'submitted' for update;
        if found then
            perform end_job(v_run, 'cancelled', null);
        end if;
    end loop;
    return true;
end $$;

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

create or replace function notify_of_move() returns trigger language plpgsql set search_path = nightshift, pg_temp as $$
begin
    if old.state = 'submitted' and new.resolved_id is not null then
        insert into notify (job_id, n, tenant_id, url, events, secret_name)
            select new.id, e.n, new.tenant_id, e.value ->> 'webhook', array(select jsonb_array_elements_text(e.value -> 'events')), e.value ->> 'secret_env'
            from document d, jsonb_array_elements(d.body::jsonb -> 'notify') with ordinality as e (value, n) where d.id = new.resolved_id;
    end if;
    if old.started_at is null and new.started_at is not null then
        perform queue_webhooks(new, 'started');
    end if;
    if old.state is distinct from new.state and new.state in ('finished', 'finished_with_errors', 'failed', 'cancelled') then
        perform queue_webhooks(new, case when new.state = 'finished_with_errors' then 'finished' else new.state::text end);
    end if;
    return null;
end $$;

create or replace function begin_prune(wanted bigint, before timestamptz) returns boolean language plpgsql set search_path = nightshift, pg_temp as $$
begin
    perform from job_cursor where job_id = wanted for update skip locked;
    if not found then
        perform from job where id = wanted and planned_at is null for update skip locked;
    end if;
    if not found then
        return false;
    elsif not (select pruned from job where id = wanted) then
        -- A retry may have been quicker.
        update job set pruned = true, idempotency_key = null, owns_dest = false where id = wanted and finished_at < before;
        return found;
    end if;
    return true;
end $$;

create or replace function prune(older_than interval, max_rows int default 10000, out jobs bigint, out items bigint, out attempts bigint, out logs bigint,
    out shards bigint, out chunks bigint, out workers bigint, out event_partitions bigint, out more boolean)
language plpgsql set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    v_before timestamptz := clock() - older_than;
    v_left bigint := max_rows;
    -- What a job that is not over waits for is still asked about.
    v_kept bigint[] := array(select a from job j, unnest(j.after) a where j.state in ('ready', 'paused', 'closing', 'cancelling'));
    v_job bigint;
    v_n bigint;
begin
    if older_than is null or older_than < interval '0' or max_rows not between 1 and 1000000 then
        perform refuse('prune takes an age of at least 0 and 1 to 1,000,000 rows a call');
    end if;
    jobs := 0; items := 0; attempts := 0; logs := 0; shards := 0; chunks := 0; workers := 0; event_partitions := 0;
    for v_job in select j.id from job j where j.finished_at < v_before and j.id <> all (v_kept) order by j.finished_at limit 1000 loop
        exit when v_left <= 0;
        continue when not begin_prune(v_job, v_before);
        delete from item where job_id = v_job and index in (select index from item where job_id = v_job order by index limit v_left);
        get diagnostics v_n = row_count;
        items := items + v_n; v_left := v_left - v_n;
        exit when v_left <= 0;
        delete from attempt_log where job_id = v_job and id in (select id from attempt_log where job_id = v_job order by id limit v_left);
        get diagnostics v_n = row_count;
        logs := logs + v_n; v_left := v_left - v_n;
        exit when v_left <= 0;
        delete from attempt where job_id = v_job and (shard_no, attempt) in
            (select shard_no, attempt from attempt where job_id = v_job order by shard_no, attempt limit v_left);
        get diagnostics v_n = row_count;
        attempts := attempts + v_n; v_left := v_left - v_n;
        exit when v_left <= 0;
        delete from shard where job_id = v_job and shard_no in (select shard_no from shard where job_id = v_job order by shard_no limit v_left);
        get diagnostics v_n = row_count;
        shards := shards + v_n; v_left := v_left - v_n;
        exit when v_left <= 0;
        delete from input_chunk where job_id = v_job and first_row in
            (select first_row from input_chunk where job_id = v_job order by first_row limit v_left);
        get diagnostics v_n = row_count;
        chunks := chunks + v_n; v_left := v_left - v_n;
        exit when v_left <= 0;
        delete from job_cursor where job_id = v_job;
        delete from job where id = v_job;
        jobs := jobs + 1; v_left := v_left - 1;
    end loop;
    more := v_left <= 0 or jobs = 1000;
    if not more then
        -- Registrations of processes that are gone, unless a shard still names them.
        delete from worker w where w.seen_at < v_before and not exists (select from shard s where s.worker_id = w.id);
        get diagnostics workers = row_count;
        event_partitions := drop_events(v_before);
        perform drop_documents();
    end if;
end $$;

create or replace function versions(out protocol int, out protocol_oldest int, out schema int) language sql immutable parallel safe
    as $$ select 1, 1, 35 $$;

reset search_path;
reset role;
