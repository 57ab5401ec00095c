-- Transitions of jobs, and what users call: submit, cancel, pause, resume, hold, release, retry.
--
-- Lock order everywhere: leased shard row -> job_cursor row -> waiting shard rows -> job row. Only claim and tick
-- take several cursors: claim waits for none while it holds one, and there is one tick at a time.
-- Helpers on hot paths are plpgsql, which keeps their plans; an SQL function is planned anew at every call.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create function note(tenant int, job bigint, shard int, worker bigint, what text, message text) returns void
language plpgsql set search_path = nightshift, pg_temp as $$
begin
    insert into event (tenant_id, job_id, shard_no, worker_id, what, message) values (tenant, job, shard, worker, what, message);
end $$;
comment on function note(int, bigint, int, bigint, text, text) is 'Records an event.';

create function is_final(state job_state) returns boolean language sql immutable as $$
    select state in ('rejected', 'cancelled', 'finished', 'finished_with_errors', 'failed')
$$;
comment on function is_final(job_state) is 'Whether nothing more happens by itself.';

-- Locks the cursor, then checks that the job is the caller's.
create function lock_own_job(wanted bigint) returns job language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_job job;
begin
    if not exists (select from job where id = wanted and tenant_id in (select my_tenants())) then
        perform refuse(format('there is no job %s', wanted), 'select id, name, state from nightshift.jobs', code => 'NSNOF');
    end if;
    perform from job_cursor where job_id = wanted for update;
    select * into v_job from job where id = wanted;
    return v_job;
end $$;
comment on function lock_own_job(bigint) is 'The job, its mutex taken; an error unless it is one of session_user''s.';

-- A destination conflicts with one that equals it, lies under it, or contains it.
create function dest_conflicts(for_job bigint, wanted text) returns setof bigint language sql stable
set search_path = nightshift, pg_temp as $$
    select job_id from destination
        where dest >= wanted collate "C" and dest < (wanted || chr(1114111)) collate "C" and job_id <> for_job
    union
    select job_id from destination
        where job_id <> for_job and dest = any (array(
            select array_to_string((string_to_array(wanted, '/'))[:n], '/') || '/'
            from generate_series(3, cardinality(string_to_array(wanted, '/')) - 1) n))
    order by 1
$$;
comment on function dest_conflicts(bigint, text) is 'Jobs that own a destination which overlaps this one.';

-- null: the job owns its destination now; else why it may not.
create function take_destination(for_job bigint, for_tenant int, wanted text, how on_existing) returns text
language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_other record;
begin
    perform pg_advisory_xact_lock(hashtext('nightshift.destination'));
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
        delete from destination where job_id = v_other.id;
        perform note(v_other.tenant_id, v_other.id, null, null, 'destination_moved',
            format('job %s took over the destination %s', for_job, wanted));
    end loop;
    insert into destination (dest, job_id) values (wanted, for_job) on conflict (dest) do nothing;
    return null;
end $$;
comment on function take_destination(bigint, int, text, on_existing) is 'Makes a job the owner of its destination, or says who is.';

-- The caller holds the cursor. Waiting shards end now; leased ones hear it at their next progress call.
create function stop_job(wanted bigint, why text) returns void language plpgsql set search_path = nightshift, pg_temp as $$
begin
    update job set state = 'cancelling', stopping = why where id = wanted;
    perform settle_job(wanted);
end $$;
comment on function stop_job(bigint, text) is 'Begins to stop a job; why is null when a user cancelled it.';

create function end_job(wanted bigint, into_state job_state, why text) returns void language plpgsql
set search_path = nightshift, pg_temp as $$
declare
    v_tenant int;
begin
    update job set state = into_state, finished_at = clock(), errors = why where id = wanted returning tenant_id into v_tenant;
    if into_state = 'cancelled' and not exists (select from item where job_id = wanted) then
        delete from destination where job_id = wanted; -- nothing was written there
    end if;
    perform note(v_tenant, wanted, null, null, into_state::text, coalesce(why, 'the job is ' || replace(into_state::text, '_', ' ')));
    perform pg_notify('nightshift_job', wanted::text);
end $$;
comment on function end_job(bigint, job_state, text) is 'Moves a job to a final state.';

-- Adds a shard's counts to the job's when it ends, and takes them back when it waits again.
create function fold(s shard, sign int) returns void language plpgsql set search_path = nightshift, pg_temp as $$
begin
    update job_cursor set n_ok = n_ok + sign * s.n_ok, n_failed = n_failed + sign * s.n_failed, n_skipped = n_skipped + sign * s.n_skipped
    where job_id = s.job_id;
end $$;
comment on function fold(shard, int) is 'Job counters hold the counts of ended shards.';

-- Level-triggered: looks at what is stored and makes the moves that are due. The caller holds the cursor.
-- True when the job moved.
create function settle_job(wanted bigint) returns boolean language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_job job;
    v_cursor job_cursor;
    v_shard shard;
    v_n_failed bigint;
begin
    select * into v_job from job where id = wanted;
    select * into v_cursor from job_cursor where job_id = wanted;
    if v_job.state in ('ready', 'paused') then
        if v_job.max_failed_items is not null then
            select v_cursor.n_failed + coalesce(sum(n_failed), 0) into v_n_failed from shard
                where job_id = wanted and (state = 'leased' or state = 'waiting');
            if v_n_failed > v_job.max_failed_items then
                perform stop_job(wanted, format('%s items failed, more than limits.max_failed_items = %s', v_n_failed, v_job.max_failed_items));
                return true;
            end if;
        end if;
        if v_cursor.next_item < v_job.n_items
            or exists (select from shard where job_id = wanted and state = 'leased')
            or exists (select from shard where job_id = wanted and state = 'waiting') then
            return false;
        end if;
        perform make_close_shard(v_job);
        return true;
    elsif v_job.state = 'closing' then
        select * into v_shard from shard where job_id = wanted and kind = 'close' order by shard_no desc limit 1;
        if v_shard.state = 'finished' then
            perform end_job(wanted, (case when v_cursor.n_failed > 0 then 'finished_with_errors' else 'finished' end)::job_state, null);
        elsif v_shard.state = 'dead' then
            perform end_job(wanted, 'failed', (select format('closing the job failed: %s', coalesce(message, code)) from attempt
                where job_id = wanted and shard_no = v_shard.shard_no order by attempt desc limit 1));
        elsif v_shard.state is null then
            perform make_close_shard(v_job);
        else
            return false;
        end if;
        return true;
    elsif v_job.state = 'cancelling' then
        for v_shard in update shard set state = 'cancelled', finished_at = clock(), ready_at = null
            where job_id = wanted and state = 'waiting' returning * loop
            perform fold(v_shard, 1);
        end loop;
        if exists (select from shard where job_id = wanted and state = 'leased') then
            return false;
        end if;
        perform end_job(wanted, (case when v_job.stopping is null then 'cancelled' else 'failed' end)::job_state, v_job.stopping);
        return true;
    end if;
    return false;
end $$;
comment on function settle_job(bigint) is 'Makes the moves of a job that its stored state calls for.';

create function make_close_shard(j job) returns void language plpgsql set search_path = nightshift, pg_temp as $$
begin
    insert into shard (job_id, shard_no, tenant_id, kind, state, first_item, end_item, token, ready_at)
        select j.id, next_shard, j.tenant_id, 'close', 'waiting', 0, j.n_items, nextval('lease_token'), clock()
        from job_cursor where job_id = j.id;
    update job_cursor set next_shard = next_shard + 1 where job_id = j.id;
    if j.state <> 'closing' then
        update job set state = 'closing' where id = j.id;
    end if;
    perform note(j.tenant_id, j.id, null, null, 'closing', 'all items are final; the closing shard waits for a worker');
    perform pg_notify('nightshift_work', j.id::text);
end $$;
comment on function make_close_shard(job) is 'All items are final: one shard that writes what belongs at the end.';

create function submit(spec text, tenant text default null, idempotency_key text default null, hold boolean default false)
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
    insert into job_cursor (job_id) values (v_job);
    perform note(v_tenant, v_job, null, null, 'submitted', format('submitted by %s', session_user));
    return v_job;
end $body$;
comment on function submit(text, text, text, boolean) is
    'Stores a YAML spec as a job and returns its id at once. Watch it in nightshift.jobs: it becomes ready, or rejected with errors.';

create function submit(spec jsonb, tenant text default null, idempotency_key text default null, hold boolean default false)
returns bigint language sql security definer set search_path = nightshift, pg_temp as $$
    select submit(spec::text, tenant, idempotency_key, hold)
$$;
comment on function submit(jsonb, text, text, boolean) is 'Like submit(text, ...), with the spec as JSON.';

create function cancel(job bigint) returns boolean language plpgsql security definer set search_path = nightshift, pg_temp as $$
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

create function pause(job bigint) returns boolean language plpgsql security definer set search_path = nightshift, pg_temp as $$
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

create function resume(job bigint) returns boolean language plpgsql security definer set search_path = nightshift, pg_temp as $$
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

create function set_held(wanted bigint, hold boolean) returns boolean language plpgsql set search_path = nightshift, pg_temp as $$
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

create function hold(job bigint) returns boolean language sql security definer set search_path = nightshift, pg_temp
    as $$ select set_held(job, true) $$;
comment on function hold(bigint) is 'No new claims; running shards go on. False when held already or ended.';

create function release(job bigint) returns boolean language sql security definer set search_path = nightshift, pg_temp
    as $$ select set_held(job, false) $$;
comment on function release(bigint) is 'Undoes hold. False when not held.';

grant execute on function submit(text, text, text, boolean), submit(jsonb, text, text, boolean), cancel(bigint), pause(bigint),
    resume(bigint), hold(bigint), release(bigint) to nightshift_tenant;

reset search_path;
reset role;
