-- schedule.cron: a spec that is run again and again. One run always lies ready as a submitted job that waits for its due time.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create table schedule (
    id bigint generated always as identity primary key,
    tenant_id int not null references tenant,
    name text not null,
    state text not null default 'active' constraint schedule_state_known check (state in ('active', 'paused', 'removed')),
    cron text not null,
    when_still_running text not null constraint schedule_rule_known check (when_still_running in ('wait', 'skip', 'overlap')),
    submitted_by name not null,
    spec_sha256 bytea not null,
    spec_text text not null,
    next_due timestamptz,
    n_runs bigint not null default 1,
    created_at timestamptz not null default clock()
);
create index schedule_active on schedule (next_due nulls first) where state = 'active';
alter table schedule enable row level security;
create policy own on schedule for select to nightshift_tenant using (tenant_id = any (array(select my_tenants())));
grant select on schedule to nightshift_tenant;
comment on table schedule is 'A recurring job. Its runs are jobs.';
comment on column schedule.id is 'Identity.';
comment on column schedule.tenant_id is 'Whose it is.';
comment on column schedule.name is 'metadata.name of the spec.';
comment on column schedule.state is 'active; paused: no run starts; removed: nor will any.';
comment on column schedule.cron is 'Five fields and a time zone; the scheduler reads them.';
comment on column schedule.when_still_running is 'What becomes of a run that is due while an earlier one is not over: wait, skip, overlap.';
comment on column schedule.submitted_by is 'session_user of the submission.';
comment on column schedule.spec_sha256 is 'sha256 of spec_text in UTF-8.';
comment on column schedule.spec_text is 'The spec of every run.';
comment on column schedule.next_due is 'When the run that waits is due; null: the scheduler has not computed it.';
comment on column schedule.n_runs is 'Number of the run that waits.';
comment on column schedule.created_at is 'When it was made.';

alter table job
    add column schedule_id bigint references schedule,
    add column due timestamptz,
    add column released boolean not null default true;
create unique index job_run on job (schedule_id, due) where schedule_id is not null;
comment on column job.schedule_id is 'The schedule whose run it is.';
comment on column job.due is 'When the run was due. Each due time has one run: a unique index.';
comment on column job.released is 'False: a run that is not due yet.';

drop index job_submitted;
create index job_submitted on job (id) where state = 'submitted' and released;
create index job_unreleased on job (schedule_id) where state = 'submitted' and not released;

drop function submitted(bigint, int);
create function submitted(term bigint, "limit" int)
returns table (job_id bigint, tenant text, spec_text text, run_date date, run_index bigint, input_prefixes text[], dest_prefixes text[], scheduled boolean)
language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
begin
    perform check_term(submitted.term);
    return query select j.id, t.name, j.spec_text, j.run_date, j.run_index, t.input_prefixes, t.dest_prefixes, j.schedule_id is not null
        from job j join tenant t on t.id = j.tenant_id where j.state = 'submitted' and j.released order by j.id limit submitted."limit";
end $$;
comment on function submitted(bigint, int) is 'Jobs that wait to be planned, oldest first; runs of a schedule when they are due.';
grant execute on function submitted(bigint, int) to nightshift_scheduler;

create function recur(term bigint, job bigint, name text, cron text, when_still_running text) returns boolean
language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    v_id bigint;
begin
    if not lock_submitted(recur.term, recur.job) then
        return false;
    end if;
    insert into schedule (tenant_id, name, cron, when_still_running, submitted_by, spec_sha256, spec_text)
        select j.tenant_id, recur.name, recur.cron, recur.when_still_running, j.submitted_by, j.spec_sha256, j.spec_text
        from job j where j.id = recur.job and j.schedule_id is null returning id into v_id;
    if v_id is not null then
        update job j set schedule_id = v_id, released = false, run_index = 1 where j.id = recur.job;
        perform note(j.tenant_id, j.id, null, null, 'scheduled', format('first run of schedule %s', v_id)) from job j where j.id = recur.job;
    end if;
    return true;
end $$;
comment on function recur(bigint, bigint, text, text, text) is 'Makes a schedule of a submitted job, which becomes its first run. False: not submitted any more.';

create function schedules_due(term bigint) returns table (schedule_id bigint, cron text, due_unix_ms bigint, now_unix_ms bigint)
language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    v_now timestamptz := clock();
begin
    perform check_term(schedules_due.term);
    return query select s.id, s.cron, floor(extract(epoch from s.next_due) * 1000)::bigint, floor(extract(epoch from v_now) * 1000)::bigint
        from schedule s where s.state = 'active' and (s.next_due is null or s.next_due <= v_now) order by s.id limit 1000;
end $$;
comment on function schedules_due(bigint) is 'Active schedules whose run is due, or whose next due time was not computed.';

create function advance_schedule(term bigint, schedule bigint, seen_unix_ms bigint, next_unix_ms bigint, run_date date) returns boolean
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
        perform from job_cursor c where c.job_id = v_run for update;
        if not exists (select from job j where j.id = v_run and j.state = 'submitted') then
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
    insert into job as j (tenant_id, submitted_by, run_date, run_index, spec_sha256, spec_text, schedule_id, due, released)
        values (s.tenant_id, s.submitted_by, advance_schedule.run_date, s.n_runs + 1, s.spec_sha256, s.spec_text, s.id, v_next, false) returning id into v_run;
    insert into job_cursor (job_id, tenant_id) values (v_run, s.tenant_id);
    update schedule x set next_due = v_next, n_runs = s.n_runs + 1 where x.id = s.id;
    perform note(s.tenant_id, v_run, null, null, 'scheduled', format('run %s of schedule %s', s.n_runs + 1, s.id));
    return true;
end $$;
comment on function advance_schedule(bigint, bigint, bigint, bigint, date) is
    'Releases the run that is due and lays the next one ready, or gives the first its time. seen is the due time that the caller saw: false when it has changed, or when the run waits for an earlier one.';
grant execute on function recur(bigint, bigint, text, text, text), schedules_due(bigint), advance_schedule(bigint, bigint, bigint, bigint, date) to nightshift_scheduler;

create function lock_own_schedule(wanted bigint) returns schedule language plpgsql set search_path = nightshift, pg_temp as $$
declare
    s schedule;
begin
    select * into s from schedule where id = wanted and tenant_id in (select my_tenants()) for update;
    if not found then
        perform refuse(format('there is no schedule %s', wanted), 'select id, name, state from nightshift.schedules', code => 'NSNOF');
    end if;
    return s;
end $$;
comment on function lock_own_schedule(bigint) is 'The schedule, locked; an error unless it is one of session_user''s.';

create function pause_schedule(schedule bigint) returns boolean language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    s schedule := lock_own_schedule(pause_schedule.schedule);
begin
    update schedule x set state = 'paused' where x.id = s.id and x.state = 'active';
    return found;
end $$;
comment on function pause_schedule(bigint) is 'No run starts until resume_schedule; runs that have started go on. False unless active.';

create function resume_schedule(schedule bigint) returns boolean language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    s schedule := lock_own_schedule(resume_schedule.schedule);
begin
    -- What was missed meanwhile is not made up for.
    update schedule x set state = 'active', next_due = null where x.id = s.id and x.state = 'paused';
    return found;
end $$;
comment on function resume_schedule(bigint) is 'Undoes pause_schedule; due times that passed meanwhile are left out. False unless paused.';

create function remove_schedule(schedule bigint) returns boolean language plpgsql security definer set search_path = nightshift, pg_temp as $$
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
        perform from job_cursor c where c.job_id = v_run for update;
        if exists (select from job j where j.id = v_run and j.state = 'submitted') then
            perform end_job(v_run, 'cancelled', null);
        end if;
    end loop;
    return true;
end $$;
comment on function remove_schedule(bigint) is 'Ends a schedule; the run that waits is cancelled, runs that have started go on. False when it was removed before.';
grant execute on function pause_schedule(bigint), resume_schedule(bigint), remove_schedule(bigint) to nightshift_tenant;

create view schedules with (security_invoker = true) as
    select s.id, t.name as tenant, s.name, s.state, s.cron, s.when_still_running, case when s.state = 'active' then s.next_due end as next_due, s.n_runs - 1 as n_runs,
        (select max(j.id) from job j where j.schedule_id = s.id and j.released and j.state <> 'cancelled') as last_job, s.submitted_by, s.created_at
    from schedule s join tenant t on t.id = s.tenant_id;
comment on view schedules is 'Recurring jobs of your tenants; n_runs counts those that were due.';
grant select on schedules to nightshift_tenant;

create function run_reason(j job) returns text language plpgsql stable set search_path = nightshift, pg_temp as $$
declare
    s schedule;
    v_run text;
begin
    select * into s from schedule where id = j.schedule_id;
    v_run := format('run %s of schedule %s (%s)', j.run_index, s.id, s.name);
    if s.state = 'paused' then
        return format('%s: paused; select nightshift.resume_schedule(%s)', v_run, s.id);
    elsif s.next_due is null then
        return format('%s: its due time is not computed yet', v_run);
    elsif j.due > clock() then
        return format('%s is due %s', v_run, local_time(j.due, regexp_replace(s.cron, '^.*\s', '')));
    end if;
    return format('%s waits for job %s, an earlier run', v_run,
        (select min(o.id) from job o where o.schedule_id = s.id and o.id <> j.id and not is_final(o.state)));
end $$;
comment on function run_reason(job) is 'Why a run of a schedule is not planned yet.';

create or replace function unplanned_reason(j job) returns text language plpgsql stable set search_path = nightshift, pg_temp as $$
begin
    return case when not j.released then run_reason(j) when exists (select from leader where leads_until > clock()) then 'waits to be planned'
        else 'waits to be planned; no scheduler is running' end;
end $$;

create or replace function submit(spec text, tenant text default null, idempotency_key text default null, hold boolean default false)
returns bigint language plpgsql security definer set search_path = nightshift, pg_temp as $body$
#variable_conflict use_column
declare
    v_tenant int;
    v_names text[];
    v_job bigint;
    v_sha256 bytea;
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
    v_sha256 := sha256(convert_to(spec, 'UTF8'));
    insert into job as j (tenant_id, held, submitted_by, run_date, idempotency_key, spec_sha256, spec_text)
        values (v_tenant, coalesce(submit.hold, false), session_user, (clock() at time zone 'UTC')::date, submit.idempotency_key, v_sha256, spec)
        on conflict (tenant_id, idempotency_key) where (j.idempotency_key is not null) do nothing
        returning id into v_job;
    if v_job is null then
        select j.id, j.spec_sha256 into v_earlier from job j where j.tenant_id = v_tenant and j.idempotency_key = submit.idempotency_key;
        if v_earlier.spec_sha256 <> v_sha256 then
            perform refuse(format('idempotency key %s was used with another spec', submit.idempotency_key),
                'use another key, or submit exactly the same text', format('that was job %s', v_earlier.id));
        end if;
        return v_earlier.id;
    end if;
    insert into job_cursor (job_id, tenant_id) values (v_job, v_tenant);
    -- One hint wakes the scheduler for all that wait; a hint for each commit would cost more than the commit.
    if not exists (select from job j where j.state = 'submitted' and j.released and j.id <> v_job) then
        perform pg_notify('nightshift_submitted', v_job::text);
    end if;
    perform note(v_tenant, v_job, null, null, 'submitted', format('submitted by %s', session_user));
    return v_job;
end $body$;

create or replace function tick(term bigint, out expired bigint, out settled bigint, out closing bigint, out submitted bigint, out active bigint)
language plpgsql security definer set search_path = nightshift, pg_temp set plan_cache_mode = force_generic_plan as $$
declare
    v_job bigint;
begin
    perform check_term(tick.term);
    expired := expire_leases();
    settled := 0;
    closing := 0;
    -- Whatever a lost call or a race left behind is found here. Cursors are looked up one by one: a join reads them all.
    for v_job in
        select j.id from job j
        where j.state in ('ready', 'paused', 'closing', 'cancelling')
            and (j.state = 'cancelling' or ((select c.next_item from job_cursor c where c.job_id = j.id) >= j.n_items
                and not exists (select from shard s where s.job_id = j.id and s.state = 'leased')
                and not exists (select from shard s where s.job_id = j.id and s.state = 'waiting')))
        order by j.id limit 1000
    loop
        perform from job_cursor where job_id = v_job for update skip locked;
        if found and settle_job(v_job) then
            select tick.settled + is_final(j.state)::int, tick.closing + (j.state = 'closing')::int into settled, closing
                from job j where j.id = v_job;
        end if;
    end loop;
    for v_job in
        select j.id from job j where j.state in ('ready', 'paused', 'closing', 'cancelling')
            and (select c.unsettled_ms from job_cursor c where c.job_id = j.id) <> 0
        order by j.id limit 1000
    loop
        perform from job_cursor where job_id = v_job for update skip locked;
        if found then
            perform settle_charge(c.tenant_id, c.job_id, c.unsettled_ms) from job_cursor c where c.job_id = v_job;
        end if;
    end loop;
    perform stop_late_jobs();
    perform narrow_windows();
    perform free_dependents();
    perform preempt_for_waiting();
    delete from lane l where not exists (select from job_cursor c where c.priority = l.priority and c.tenant_id = l.tenant_id and c.open);
    -- A job that opened just before that deletion.
    insert into lane (priority, tenant_id) select distinct c.priority, c.tenant_id from job_cursor c where c.open
        and not exists (select from lane l where l.priority = c.priority and l.tenant_id = c.tenant_id) on conflict do nothing;
    select count(*) into submitted from job where state = 'submitted' and released;
    select count(*) into active from job where state in ('ready', 'paused', 'closing', 'cancelling');
end $$;

create or replace function versions(out protocol int, out protocol_oldest int, out schema int) language sql immutable parallel safe
    as $$ select 1, 1, 23 $$;

reset search_path;
reset role;
