-- Recurring jobs: one schedule, one job for each due run.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create or replace function recur(term bigint, job bigint, name text, cron text, when_still_running text, kind text default null) returns boolean
language plpgsql security definer set search_path = nightshift, pg_temp set lock_timeout = '250ms' as $$
#variable_conflict use_column
declare
    v_id bigint;
begin
    if not lock_submitted(recur.term, recur.job) then
        return false;
    end if;
    insert into schedule (tenant_id, name, kind, cron, when_still_running, submitted_by, spec_sha256, spec_text)
        select j.tenant_id, recur.name, recur.kind, recur.cron, recur.when_still_running, j.submitted_by, d.sha256, d.body
        from job j join document d on d.id = j.spec_id where j.id = recur.job and j.schedule_id is null returning id into v_id;
    if v_id is not null then
        update job j set schedule_id = v_id, released = false, run_index = 1 where j.id = recur.job;
        perform note(j.tenant_id, j.id, null, null, 'scheduled', format('first run of schedule %s', v_id)) from job j where j.id = recur.job;
    end if;
    return true;
end $$;
comment on function recur(bigint, bigint, text, text, text, text) is
    'Makes a schedule of a submitted job, which becomes its first run. False: not submitted any more.';
grant execute on function recur(bigint, bigint, text, text, text, text) to nightshift_scheduler;

create or replace function schedules_due(term bigint) returns table (schedule_id bigint, cron text, due_unix_ms bigint, now_unix_ms bigint)
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
grant execute on function schedules_due(bigint) to nightshift_scheduler;

create or replace function advance_schedule(term bigint, schedule bigint, seen_unix_ms bigint, next_unix_ms bigint, run_date date) returns boolean
language plpgsql security definer set search_path = nightshift, pg_temp set lock_timeout = '250ms' as $$
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
comment on function advance_schedule(bigint, bigint, bigint, bigint, date) is
    'Releases the run that is due and lays the next one ready, or gives the first its time. seen is the due time that the caller saw: false when it has changed, or when the run waits for an earlier one.';
grant execute on function advance_schedule(bigint, bigint, bigint, bigint, date) to nightshift_scheduler;

create or replace function lock_own_schedule(wanted bigint) returns schedule language plpgsql set search_path = nightshift, pg_temp as $$
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

create or replace function pause_schedule(schedule bigint) returns boolean
language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    s schedule := lock_own_schedule(pause_schedule.schedule);
begin
    update schedule x set state = 'paused' where x.id = s.id and x.state = 'active';
    return found;
end $$;
comment on function pause_schedule(bigint) is 'No run starts until resume_schedule; runs that have started go on. False unless active.';
grant execute on function pause_schedule(bigint) to nightshift_tenant;

create or replace function resume_schedule(schedule bigint) returns boolean
language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    s schedule := lock_own_schedule(resume_schedule.schedule);
begin
    -- What was missed meanwhile is not made up for.
    update schedule x set state = 'active', next_due = null where x.id = s.id and x.state = 'paused';
    return found;
end $$;
comment on function resume_schedule(bigint) is 'Undoes pause_schedule; due times that passed meanwhile are left out. False unless paused.';
grant execute on function resume_schedule(bigint) to nightshift_tenant;

create or replace function remove_schedule(schedule bigint) returns boolean
language plpgsql security definer set search_path = nightshift, pg_temp as $$
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
comment on function remove_schedule(bigint) is
    'Ends a schedule; the run that waits is cancelled, runs that have started go on. False when it was removed before.';
grant execute on function remove_schedule(bigint) to nightshift_tenant;

reset search_path;
reset role;
