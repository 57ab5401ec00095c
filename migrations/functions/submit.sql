-- What users do with a job: submit, hold, release, pause, resume, cancel.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

-- Jobs do not reference documents with foreign keys: jobs side by side would all lock the row of the text they share. Instead whoever
-- uses a document holds the lock of those who write to the table until its job is there, and prune holds one that excludes it. Tenants
-- can take neither: anybody may take advisory locks, and keep them.
create or replace function document_of(tenant int, body text) returns int language plpgsql as $$
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

create or replace function submit(spec jsonb, tenant text default null, idempotency_key text default null, hold boolean default false) returns bigint
language sql security definer set search_path = nightshift, pg_temp as $$
    select submit(spec::text, tenant, idempotency_key, hold)
$$;
comment on function submit(jsonb, text, text, boolean) is 'Like submit(text, ...), with the spec as JSON.';
grant execute on function submit(jsonb, text, text, boolean) to nightshift_tenant;

create or replace function submit(spec text, tenant text default null, idempotency_key text default null, hold boolean default false) returns bigint
language plpgsql security definer set search_path = nightshift, pg_temp as $body$
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
comment on function submit(text, text, text, boolean) is
    'Stores a YAML spec as a job and returns its id at once. Watch it in nightshift.jobs: it becomes ready, or rejected with errors.';
grant execute on function submit(text, text, text, boolean) to nightshift_tenant;

-- Before its plan a job has no cursor: its own row is the mutex.
create or replace function lock_own_job(wanted bigint) returns job language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_job job;
begin
    select * into v_job from job where id = wanted and tenant_id in (select my_tenants());
    if not found then
        raise exception using errcode = 'NSNOF', table = 'job', message = format('there is no job %s', wanted),
            hint = 'select id, name, state from nightshift.jobs';
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
comment on function lock_own_job(bigint) is 'The job, its mutex taken; an error unless it is one of session_user''s.';

create or replace function set_held(wanted bigint, hold boolean) returns boolean language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_job job := lock_own_job(wanted);
begin
    if v_job.held = hold or is_final(v_job.state) then
        return false;
    end if;
    update job set held = hold where id = wanted;
    perform note(v_job.tenant_id, wanted, null, null, case when hold then 'held' else 'unheld' end, format('by %s', session_user));
    if not hold then
        perform pg_notify('nightshift_work', wanted::text);
    end if;
    return true;
end $$;
comment on function set_held(bigint, boolean) is 'Body of hold and release.';

create or replace function hold(job bigint) returns boolean language sql security definer set search_path = nightshift, pg_temp as $$ select set_held(job, true) $$;
comment on function hold(bigint) is 'No new claims; running shards go on. False when held already or ended.';
grant execute on function hold(bigint) to nightshift_tenant;

create or replace function release(job bigint) returns boolean language sql security definer set search_path = nightshift, pg_temp as $$ select set_held(job, false) $$;
comment on function release(bigint) is 'Undoes hold. False when not held.';
grant execute on function release(bigint) to nightshift_tenant;

create or replace function cancel(job bigint) returns boolean language plpgsql security definer set search_path = nightshift, pg_temp as $$
declare
    v_job job := lock_own_job(cancel.job);
begin
    if v_job.state = 'submitted' then
        perform end_job(v_job.id, 'cancelled', null);
    elsif v_job.state in ('ready', 'paused', 'closing') then
        perform note(v_job.tenant_id, v_job.id, null, null, 'cancelling', format('cancelled by %s', session_user));
        perform stop_job(v_job.id, null);
    else
        return false;
    end if;
    return true;
end $$;
comment on function cancel(bigint) is 'Stops a job. False when it had already ended or is being stopped.';
grant execute on function cancel(bigint) to nightshift_tenant;

create or replace function pause(job bigint) returns boolean language plpgsql security definer set search_path = nightshift, pg_temp as $$
declare
    v_job job := lock_own_job(pause.job);
begin
    if v_job.state <> 'ready' then
        return false;
    end if;
    update job set state = 'paused' where id = v_job.id;
    perform note(v_job.tenant_id, v_job.id, null, null, 'paused', format('paused by %s', session_user));
    return true;
end $$;
comment on function pause(bigint) is 'No new claims; running shards give their leases back. False unless ready.';
grant execute on function pause(bigint) to nightshift_tenant;

create or replace function resume(job bigint) returns boolean language plpgsql security definer set search_path = nightshift, pg_temp as $$
declare
    v_job job := lock_own_job(resume.job);
begin
    if v_job.state <> 'paused' then
        return false;
    end if;
    update job set state = 'ready' where id = v_job.id;
    perform note(v_job.tenant_id, v_job.id, null, null, 'resumed', format('resumed by %s', session_user));
    perform settle_job(v_job.id);
    perform pg_notify('nightshift_work', v_job.id::text);
    return true;
end $$;
comment on function resume(bigint) is 'Undoes pause. False unless paused.';
grant execute on function resume(bigint) to nightshift_tenant;

reset search_path;
reset role;
