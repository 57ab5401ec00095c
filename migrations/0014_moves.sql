-- Moves of jobs that the queue must hear of, and what a tick does besides.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create or replace function settle_job(wanted bigint) returns boolean language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_job job;
    v_cursor job_cursor;
    v_shard shard;
    v_n_failed bigint;
    v_gpu_ms bigint;
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
        if v_job.max_gpu_ms is not null then
            select v_cursor.gpu_ms + coalesce(sum(gpu_ms), 0) into v_gpu_ms from shard
                where job_id = wanted and (state = 'leased' or state = 'waiting');
            if v_gpu_ms > v_job.max_gpu_ms then
                perform stop_job(wanted, format('%s engine hours were used, more than limits.max_gpu_hours = %s',
                    round(v_gpu_ms / 3600000.0, 3), round(v_job.max_gpu_ms / 3600000.0, 3)));
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

create or replace function make_close_shard(j job) returns void language plpgsql set search_path = nightshift, pg_temp as $$
begin
    insert into shard (job_id, shard_no, tenant_id, kind, state, first_item, end_item, token, ready_at)
        select j.id, next_shard, j.tenant_id, 'close', 'waiting', 0, j.n_items, nextval('lease_token'), clock()
        from job_cursor where job_id = j.id;
    update job_cursor set next_shard = next_shard + 1 where job_id = j.id;
    if j.state <> 'closing' then
        update job set state = 'closing' where id = j.id;
    else
        perform mark_job(j.id);
    end if;
    perform note(j.tenant_id, j.id, null, null, 'closing', 'all items are final; the closing shard waits for a worker');
    perform pg_notify('nightshift_work', j.id::text);
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
    if not exists (select from job j where j.state = 'submitted' and j.id <> v_job) then
        perform pg_notify('nightshift_submitted', v_job::text);
    end if;
    perform note(v_tenant, v_job, null, null, 'submitted', format('submitted by %s', session_user));
    return v_job;
end $body$;

create or replace function planned(term bigint, job bigint, plan jsonb, out outcome text, out words text)
language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    p record;
    v_job job;
    v_rows record;
begin
    if not lock_submitted(planned.term, planned.job) then
        outcome := 'gone';
        return;
    end if;
    select * into p from jsonb_to_record(plan) as x (name text, kind text, labels jsonb, resolved jsonb, warnings text, dest text,
        on_existing on_existing, inputs text[], model_key text, allow_mixed boolean, priority int, n_rows bigint, n_items bigint,
        shard_items int, max_attempts int, max_failed_items bigint,
        worker_labels text[], min_memory_bytes bigint, max_gpu_ms bigint, stop_at_unix_ms bigint, after bigint[], time_window jsonb,
        opens_at_unix_ms bigint, closes_at_unix_ms bigint, backoff_ms int, max_backoff_ms int, jitter boolean);
    select count(*) as n, coalesce(sum(c.n_rows), 0) as n_rows, coalesce(max(c.first_row + c.n_rows), 0) as end_row into v_rows
        from input_chunk c where c.job_id = planned.job;
    if v_rows.n_rows <> p.n_rows or v_rows.end_row <> p.n_rows then
        perform refuse(format('the chunks of job %s hold %s rows up to row %s, its plan says %s', planned.job, v_rows.n_rows, v_rows.end_row, p.n_rows));
    end if;
    select * into v_job from job j where j.id = planned.job;
    words := coalesce(prefix_refusal(v_job.tenant_id, p.dest, p.inputs),
        take_destination(v_job.id, v_job.tenant_id, p.dest, p.on_existing));
    if words is not null then
        outcome := 'refused';
        return;
    end if;
    update job j set state = (case when p.n_items = 0 then 'closing' else 'ready' end)::job_state, planned_at = clock(), name = p.name,
        kind = p.kind, labels = coalesce(p.labels, '{}'), resolved = p.resolved, warnings = coalesce(p.warnings, ''), dest = p.dest,
        on_existing = p.on_existing, inputs = coalesce(p.inputs, '{}'), model_key = p.model_key, allow_mixed = coalesce(p.allow_mixed, false),
        priority = coalesce(p.priority, 0), n_rows = p.n_rows, n_items = p.n_items, shard_items = p.shard_items,
        max_attempts = p.max_attempts, max_failed_items = p.max_failed_items,
        worker_labels = coalesce(p.worker_labels, '{}'), min_memory_bytes = coalesce(p.min_memory_bytes, 0), max_gpu_ms = p.max_gpu_ms,
        stop_at = to_timestamp(p.stop_at_unix_ms / 1000.0), after = coalesce(p.after, '{}'), time_window = p.time_window,
        opens_at = coalesce(to_timestamp(p.opens_at_unix_ms / 1000.0), '-infinity'),
        closes_at = coalesce(to_timestamp(p.closes_at_unix_ms / 1000.0), 'infinity'), backoff_ms = coalesce(p.backoff_ms, 1000),
        max_backoff_ms = coalesce(p.max_backoff_ms, 60000), jitter = coalesce(p.jitter, true)
        where j.id = planned.job;
    perform note(v_job.tenant_id, v_job.id, null, null, 'ready', format('planned: %s items', p.n_items));
    if p.n_items = 0 then
        perform settle_job(v_job.id);
    else
        perform pg_notify('nightshift_work', v_job.id::text);
    end if;
    outcome := 'ready';
end $$;

-- A tick holds many cursors at once, so it waits for none: what it passes over comes with the next.
create or replace function expire_leases() returns bigint language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_shard shard;
    v_n bigint := 0;
begin
    for v_shard in
        select * from shard where state = 'leased' and leased_until <= clock() order by job_id, shard_no limit 1000 for update skip locked
    loop
        perform from job_cursor where job_id = v_shard.job_id for update skip locked;
        continue when not found;
        perform end_lease(v_shard, 'lost', 'lease_lost', format('worker %s was not heard for %s ms', v_shard.worker_id, v_shard.lease_ms));
        v_n := v_n + 1;
    end loop;
    return v_n;
end $$;

create function stop_late_jobs() returns void language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_job record;
begin
    for v_job in select id from job where stop_at <= clock() and state in ('ready', 'paused') order by id limit 1000 loop
        perform from job_cursor where job_id = v_job.id for update skip locked;
        if found and exists (select from job where id = v_job.id and state in ('ready', 'paused')) then
            perform stop_job(v_job.id, 'limits.stop_at has passed');
        end if;
    end loop;
end $$;
comment on function stop_late_jobs() is 'Stops jobs whose stop_at has passed.';

create function free_dependents() returns void language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_job record;
begin
    for v_job in select id, after from job where after <> '{}' and state in ('ready', 'paused') and started_at is null order by id limit 1000 loop
        if exists (select from job where id = any (v_job.after) and state in ('rejected', 'cancelled', 'failed')) then
            perform from job_cursor where job_id = v_job.id for update skip locked;
            if found and exists (select from job where id = v_job.id and state in ('ready', 'paused')) then
                perform stop_job(v_job.id, 'a job that it waits for did not finish');
            end if;
        elsif not waits_for_jobs(v_job.after) and not (select open from job_cursor where job_id = v_job.id) then
            perform from job_cursor where job_id = v_job.id for update skip locked;
            if found then
                perform mark_job(v_job.id);
            end if;
        end if;
    end loop;
end $$;
comment on function free_dependents() is 'Opens jobs whose `after` has finished, and stops those whose `after` never will.';

-- One shard at a time for each waiting job: the next tick looks again.
create function preempt_for_waiting() returns void language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_now timestamptz := clock();
    c record;
begin
    for c in select * from job_cursor o where o.open and o.not_before <= v_now and o.opens_at <= v_now and o.closes_at > v_now
            and o.priority > (select min(l.priority) from job_cursor l join shard s on s.job_id = l.job_id and s.state = 'leased')
            and o.queued_at <= v_now - interval '2 seconds'
            and not exists (select from shard s where s.job_id = o.job_id and s.state = 'leased')
        order by o.priority desc, o.queued_at limit 16
    loop
        update shard set preempt = true where (job_id, shard_no) = (select s.job_id, s.shard_no
            from shard s join job_cursor l on l.job_id = s.job_id join worker w on w.id = s.worker_id
            where s.state = 'leased' and s.kind = 'items' and not s.preempt and l.priority < c.priority and not w.drain and w.models ? c.model_key
                and (c.fingerprint is null or c.fingerprint = w.models ->> c.model_key) and c.labels <@ w.labels and c.min_memory_bytes <= w.memory_bytes
            order by l.priority, s.job_id desc, s.shard_no desc limit 1)
            and state = 'leased' and not exists (select from shard s join job_cursor l on l.job_id = s.job_id
                where s.state = 'leased' and s.preempt and l.priority < c.priority);
    end loop;
end $$;
comment on function preempt_for_waiting() is 'Asks a worker that has less urgent work to give it back for a job that nobody has begun.';

create or replace function tick(term bigint, out expired bigint, out settled bigint, out closing bigint, out submitted bigint, out active bigint)
language plpgsql security definer set search_path = nightshift, pg_temp as $$
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
    perform free_dependents();
    perform preempt_for_waiting();
    delete from lane l where not exists (select from job_cursor c where c.priority = l.priority and c.tenant_id = l.tenant_id and c.open);
    -- A job that opened just before that deletion.
    insert into lane (priority, tenant_id) select distinct c.priority, c.tenant_id from job_cursor c where c.open
        and not exists (select from lane l where l.priority = c.priority and l.tenant_id = c.tenant_id) on conflict do nothing;
    select count(*) into submitted from job where state = 'submitted';
    select count(*) into active from job where state in ('ready', 'paused', 'closing', 'cancelling');
end $$;

reset search_path;
reset role;
