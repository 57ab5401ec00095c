-- What may be read of jobs, with the reasons why a job waits.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create or replace function local_time(at timestamptz, zone text) returns text language plpgsql stable set search_path = nightshift, pg_temp as $$
begin
    return to_char(at at time zone zone, 'YYYY-MM-DD HH24:MI ') || zone;
exception when invalid_parameter_value then -- this server's zones are older than ours
    return to_char(at at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"');
end $$;
comment on function local_time(timestamptz, text) is 'A moment on the wall clock of a zone, which is named.';

create or replace function engine_hours(ms double precision) returns text language sql immutable parallel safe as $$
    select trim(to_char(ms / 3600000, 'FM999999990.99'), '.')
$$;
comment on function engine_hours(double precision) is 'Engine milliseconds as hours.';

create or replace function ahead_reason(j job) returns text language plpgsql stable set search_path = nightshift, pg_temp as $$
declare
    v_now timestamptz := clock();
    o record;
begin
    select c.job_id, c.priority, c.tenant_id into o from job_cursor c
        where c.open and c.priority > j.priority and c.not_before <= v_now and c.opens_at <= v_now and c.closes_at > v_now
            and exists (select from worker w where w.seen_at > v_now - interval '1 minute' and not w.drain and w.models ? c.model_key
                and (c.fingerprint is null or c.fingerprint = w.models ->> c.model_key) and c.labels <@ w.labels and c.min_memory_bytes <= w.memory_bytes)
        order by c.priority desc, c.tenant_id <> j.tenant_id, c.job_id limit 1;
    if found then
        return format('; %s of priority %s goes before this one of %s',
            case when o.tenant_id = j.tenant_id then format('job %s', o.job_id) else 'a job of another tenant' end, o.priority, j.priority);
    end if;
    select min(c.job_id) as job_id into o from job_cursor c where c.open and c.priority = j.priority and c.tenant_id = j.tenant_id and c.job_id < j.id
        and c.not_before <= v_now and c.opens_at <= v_now and c.closes_at > v_now and c.model_key = j.model_key;
    if o.job_id is not null then
        return format('; job %s was there earlier', o.job_id);
    elsif exists (select from lane l join share s on s.tenant_id = l.tenant_id, share own
            where l.priority = j.priority and l.tenant_id <> j.tenant_id and own.tenant_id = j.tenant_id and s.usage / s.weight < own.usage / own.weight) then
        return '; other tenants have had less of their share';
    end if;
    return '';
end $$;
comment on function ahead_reason(job) is 'Who goes before a job that could start, as the end of a sentence; empty: nobody.';

create or replace function run_reason(j job) returns text language plpgsql stable set search_path = nightshift, pg_temp as $$
declare
    s schedule;
    v_run text;
begin
    select * into s from schedule where id = j.schedule_id;
    v_run := format('run %s of schedule %s (%s)', j.run_index, s.id, s.name);
    if s.state = 'paused' then
        return format('%s: paused', v_run);
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
comment on function unplanned_reason(job) is 'Why a job is not planned yet.';

create or replace function tenant_reason(tenant int) returns text language plpgsql stable set search_path = nightshift, pg_temp as $$
declare
    s record;
    v_month date := date_trunc('month', clock() at time zone 'UTC')::date;
begin
    select t.name, h.* into s from share h join tenant t on t.id = h.tenant_id where h.tenant_id = tenant;
    if s.month_gpu_ms >= s.max_gpu_ms and s.month = v_month then
        return format('tenant %s has used %s of its %s engine hours of this month; it goes on at %s', s.name, engine_hours(s.month_gpu_ms),
            engine_hours(s.max_gpu_ms), local_time((v_month + interval '1 month') at time zone 'UTC', 'UTC'));
    elsif s.max_leased <= (select count(*) from shard h where h.state = 'leased' and h.tenant_id = tenant) then
        return format('tenant %s has %s shards leased, as many as it may', s.name, s.max_leased);
    end if;
    return null;
end $$;
comment on function tenant_reason(int) is 'Why nothing of a tenant may start; null when it may.';

create or replace function window_reason(j job) returns text language plpgsql stable set search_path = nightshift, pg_temp as $$
declare
    v_now timestamptz := clock();
    v_text text := j.time_window ->> 'window';
    v_zone text := split_part(j.time_window ->> 'window', ' ', 2);
    v_nobody text := case when exists (select from leader where leads_until > clock()) then '' else '; no scheduler is running' end;
begin
    if j.time_window is null then
        return case when j.opens_at > v_now then format('starts not before %s', local_time(coalesce(j.not_before, j.opens_at), 'UTC'))
            when j.closes_at <= v_now then format('closed since %s', local_time(j.closes_at, 'UTC')) end;
    elsif j.window_closes_at <= v_now then
        return format('window %s: the next opening is not computed yet%s', v_text, v_nobody);
    elsif j.opens_at = 'infinity' then
        return format('window %s does not open within a year', v_text);
    elsif j.opens_at > v_now then
        return format('window %s is closed until %s', v_text, local_time(j.opens_at, v_zone));
    elsif j.closes_at <= v_now then
        return format('window %s closes at %s, before an item would be done', v_text, local_time(j.window_closes_at, v_zone));
    end if;
    return null;
end $$;
comment on function window_reason(job) is 'Why the time is not right for a job; null when it is.';

-- Each count is of the workers that also passed the ones before it.
create or replace function worker_reason(j job, fingerprint text) returns text language plpgsql stable set search_path = nightshift, pg_temp as $$
declare
    v record;
begin
    select count(*) as n, count(*) filter (where has_model) as n_model, count(*) filter (where has_print) as n_print,
            count(*) filter (where has_print and has_labels) as n_labels,
            count(*) filter (where has_print and has_labels and has_memory) as n_memory,
            count(*) filter (where has_print and has_labels and has_memory and not drain) as n_free,
            max(memory_bytes) filter (where has_print and has_labels) as memory_bytes
        into v from (
            select drain, memory_bytes, models ? j.model_key as has_model, j.worker_labels <@ labels as has_labels, j.min_memory_bytes <= memory_bytes as has_memory,
                models ? j.model_key and (fingerprint is null or models ->> j.model_key = fingerprint) as has_print
            from worker where seen_at > clock() - interval '1 minute') w;
    return case
        when v.n = 0 then 'no worker is running'
        when v.n_model = 0 then format('no running worker has model %s', j.model_key)
        when v.n_print = 0 then format('pinned to engine %s since its first shard; no running worker has it', left(fingerprint, 12))
        when v.n_labels = 0 then format('no running worker with model %s has the labels %s', j.model_key, array_to_string(j.worker_labels, ', '))
        when v.n_memory = 0 then format('needs %s of memory; the largest worker that fits otherwise has %s', pg_size_pretty(j.min_memory_bytes),
            case v.memory_bytes when 0 then 'not said how much it has' else pg_size_pretty(v.memory_bytes) end)
        when v.n_free = 0 then format('every worker with model %s is draining', j.model_key) end;
end $$;
comment on function worker_reason(job, text) is 'Why no running worker may take a job; null when one may.';

create or replace function waits_for(wanted bigint) returns text language plpgsql stable security definer set search_path = nightshift, pg_temp as $$
declare
    j job;
    v_now timestamptz := clock();
    v_n_leased bigint;
    v_ready_at timestamptz;
    v_open boolean;
    v_words text;
begin
    select * into j from job where id = wanted and state not in ('rejected', 'cancelled', 'finished', 'finished_with_errors', 'failed')
        and (tenant_id in (select my_tenants()) or pg_has_role(session_user, 'nightshift_owner', 'member'));
    if not found then
        return null;
    end if;
    select count(*) into v_n_leased from shard where job_id = wanted and state = 'leased';
    if j.state = 'submitted' then
        return unplanned_reason(j);
    elsif j.state = 'paused' then
        return 'paused';
    elsif j.state = 'cancelling' then
        return format('stopping; shards still leased: %s', v_n_leased);
    elsif j.held then
        return 'held';
    end if;
    select min(ready_at) into v_ready_at from shard where job_id = wanted and state = 'waiting';
    v_open := coalesce(v_ready_at <= v_now, false) or (j.state = 'ready' and exists (select from job_cursor c where c.job_id = wanted and c.next_item < j.n_items));
    if v_n_leased > 0 and not v_open then
        return case when v_ready_at is null then 'all remaining shards are leased'
            else format('the remaining shards are leased, or back off until %s', to_char(v_ready_at at time zone 'UTC', 'HH24:MI:SS "UTC"')) end;
    elsif v_n_leased > 0 then
        return null;
    end if;
    select concat_ws('; ', r.message, r.hint) into v_words from prefix_refusal(j.tenant_id, j.dest, j.inputs) r where r.message is not null;
    if v_words is null and j.state = 'ready' then
        select format('waits for job %s (%s), which is %s', o.id, coalesce(o.name, 'not planned yet'), o.state) into v_words
            from job o where o.id = any (j.after) and o.state not in ('finished', 'finished_with_errors') order by o.id limit 1;
        v_words := coalesce(v_words, window_reason(j));
    end if;
    return coalesce(v_words, tenant_reason(j.tenant_id),
        worker_reason(j, case when not j.allow_mixed then (select sha256 from fingerprint where id = j.fingerprint_id) end),
        case when not v_open then format('backs off until %s', to_char(v_ready_at at time zone 'UTC', 'HH24:MI:SS "UTC"'))
            else 'waits for a free worker' || ahead_reason(j) end);
end $$;
comment on function waits_for(bigint) is 'Why a job does not run, in words; null when it does or has ended. What its user can call then is told by way_on.';
grant execute on function waits_for(bigint) to nightshift_tenant;

create or replace function way_on(state job_state, held boolean, released boolean, schedule_state text) returns text language sql immutable parallel safe as $$
    select case when state = 'submitted' then case when not released and schedule_state = 'paused' then 'resume_schedule' end
        when state = 'paused' then 'resume' when state in ('ready', 'closing') and held then 'release' end
$$;
comment on function way_on(job_state, boolean, boolean, text) is 'The function that lets a job go on which waits for its user; null: it waits for something else.';
grant execute on function way_on(job_state, boolean, boolean, text) to nightshift_tenant;

create or replace function worker_state(seen timestamptz, drain boolean) returns text
language sql stable security definer set search_path = nightshift, pg_temp as $$
    select case when seen < clock() - interval '1 minute' then 'gone' when drain then 'draining' else 'live' end
$$;
comment on function worker_state(timestamptz, boolean) is 'live, draining, or gone: silent for a minute.';
grant execute on function worker_state(timestamptz, boolean) to nightshift_tenant;

create or replace function hours_of_month(month date, ms double precision) returns double precision
language sql stable security definer set search_path = nightshift, pg_temp as $$
    select case when month = date_trunc('month', clock() at time zone 'UTC')::date then ms / 3600000 else 0 end
$$;
comment on function hours_of_month(date, double precision) is 'Engine hours of the current month (UTC).';
grant execute on function hours_of_month(date, double precision) to nightshift_tenant;

-- A run that is not planned yet has the name and the kind of its schedule.
create or replace view jobs with (security_invoker = true) as
    select j.id, t.name as tenant, coalesce(j.name, r.name) as name, coalesce(j.kind, r.kind) as kind, j.state, j.held,
        waits_for(j.id) || coalesce('; select nightshift.' || w.call || '(' || w.call_id || ')', '') as reason, coalesce(j.priority, 0) as priority, j.n_items,
        coalesce(c.n_ok, 0) + open.n_ok as n_ok, coalesce(c.n_failed, 0) + open.n_failed as n_failed,
        coalesce(c.n_skipped, 0) + open.n_skipped as n_skipped,
        open.n_in_flight, open.n_leased, j.dest, j.errors, coalesce(j.warnings, '') as warnings, j.round, coalesce(j.labels, '{}') as labels,
        j.model_key, f.sha256 as fingerprint, j.n_rows, j.submitted_by, j.idempotency_key, j.submitted_at, j.planned_at, j.started_at, j.finished_at,
        waits_for(j.id) as why, w.call, w.call_id
    from job j join tenant t on t.id = j.tenant_id left join job_cursor c on c.job_id = j.id left join fingerprint f on f.id = j.fingerprint_id
        left join schedule r on r.id = j.schedule_id,
    lateral (
        select coalesce(sum(s.n_ok), 0)::bigint as n_ok, coalesce(sum(s.n_failed), 0)::bigint as n_failed, coalesce(sum(s.n_skipped), 0)::bigint as n_skipped,
            coalesce(sum(cardinality(s.in_flight)), 0)::bigint as n_in_flight, count(*) filter (where s.state = 'leased') as n_leased
        from (select * from shard where job_id = j.id and state = 'leased' union all select * from shard where job_id = j.id and state = 'waiting') s
    ) open,
    lateral (
        select x.call, case x.call when 'resume_schedule' then r.id else j.id end as call_id from (select way_on(j.state, j.held, j.released, r.state) as call) x
    ) w;
comment on view jobs is 'Jobs of your tenants; reason says why one does not run, and what to call. Its parts: why, call, call_id.';
grant select on jobs to nightshift_tenant;

create or replace view specs with (security_invoker = true) as
    select j.id as job_id, d.body as spec_text, encode(d.sha256, 'hex') as spec_sha256, r.body::jsonb as resolved, coalesce(j.inputs, '{}') as inputs
    from job j join document d on d.id = j.spec_id left join document r on r.id = j.resolved_id;
comment on view specs is 'Specs as submitted and as resolved (they are long, so they are not in jobs).';
grant select on specs to nightshift_tenant;

create or replace view items with (security_invoker = true) as
    select i.job_id, i.index, i.status, encode(i.item_id, 'hex') as item_id, i.seed, i.error_code, i.error_message,
        artifacts_of(i.role, i.key, i.bytes, i.sha256, i.more) as artifacts, i.shard_no, i.attempt::int as attempt,
        a.worker_id, i.gpu_ms, i.tokens, i.steps, f.sha256 as fingerprint, i.info, i.finished_at
    from item i left join fingerprint f on f.id = i.fingerprint_id
        left join attempt a on a.job_id = i.job_id and a.shard_no = i.shard_no and a.attempt = i.attempt;
comment on view items is 'Finished items: ok, failed or skipped.';
grant select on items to nightshift_tenant;

create or replace view outputs with (security_invoker = true) as
    select i.job_id, i.index, encode(i.item_id, 'hex') as item_id, a.role, j.dest || a.key as uri, a.key, a.bytes, encode(a.sha256, 'hex') as sha256, a.n
    from item i join job j on j.id = i.job_id,
        unnest(artifacts_of(i.role, i.key, i.bytes, i.sha256, i.more)) with ordinality as a (role, key, bytes, sha256, n);
comment on view outputs is 'Stored objects, one row each; n counts them within their item.';
grant select on outputs to nightshift_tenant;

create or replace view events with (security_invoker = true) as
    select e.id, e.at, t.name as tenant, e.job_id, e.shard_no, e.worker_id, e.what, e.message
    from (
        select id, at, tenant_id, job_id, shard_no, worker_id, what, message from event
        union all
        select submitted_event, submitted_at, tenant_id, id, null as shard_no, null as worker_id, 'submitted' as what,
            format('submitted by %s', submitted_by) as message
            from job where submitted_event is not null
        union all
        select planned_event, planned_at, tenant_id, id, null as shard_no, null as worker_id, 'ready' as what,
            format('planned: %s items', n_items) as message
            from job where planned_event is not null
    ) e join tenant t on t.id = e.tenant_id;
comment on view events is 'What happened to jobs.';
grant select on events to nightshift_tenant;

create or replace view shards with (security_invoker = true) as
    select s.job_id, s.shard_no, s.kind, s.state, s.first_item, s.end_item, s.n_ok, s.n_failed, s.n_skipped, s.in_flight, s.attempt,
        s.n_failed_attempts, s.n_lost_attempts, s.worker_id, s.ready_at, s.leased_until, s.finished_at from shard s;
comment on view shards is 'Shards that were claimed at least once.';
grant select on shards to nightshift_tenant;

create or replace view attempts with (security_invoker = true) as
    select a.job_id, a.shard_no, a.attempt, a.round, a.worker_id, w.name as worker, a.outcome, a.code, a.message, a.started_at, a.ended_at
    from attempt a left join worker w on w.id = a.worker_id;
comment on view attempts is 'Leases of shards and how they ended.';
grant select on attempts to nightshift_tenant;

create or replace view logs with (security_invoker = true) as
    select l.id, l.at, l.job_id, l.shard_no, l.attempt, l.text from attempt_log l;
comment on view logs is 'Log lines of attempts.';
grant select on logs to nightshift_tenant;

create or replace view workers with (security_invoker = true) as
    select w.id, w.name, worker_state(w.seen_at, w.drain) as state, w.models, w.info, w.health,
        (select count(*) from shard s where s.state = 'leased' and s.worker_id = w.id) as n_leased, w.registered_at, w.seen_at
    from worker w;
comment on view workers is 'Workers; n_leased counts shards of jobs you may see.';
grant select on workers to nightshift_tenant;

create or replace view schedules with (security_invoker = true) as
    select s.id, t.name as tenant, s.name, s.state, s.cron, s.when_still_running, case when s.state = 'active' then s.next_due end as next_due, s.n_runs - 1 as n_runs,
        (select max(j.id) from job j where j.schedule_id = s.id and j.released and j.state <> 'cancelled') as last_job, s.submitted_by, s.created_at
    from schedule s join tenant t on t.id = s.tenant_id;
comment on view schedules is 'Recurring jobs of your tenants; n_runs counts those that were due.';
grant select on schedules to nightshift_tenant;

create or replace view webhooks with (security_invoker = true) as
    select w.event_id, w.job_id, w.round, w.event, w.url, w.secret_name,
        case when w.delivered_at is not null then 'delivered' when w.failed_at is not null then 'failed' else 'waiting' end as state,
        w.attempts, w.last_status, w.last_error, w.body, w.created_at, w.due_at, w.delivered_at, w.failed_at
    from webhook w;
comment on view webhooks is 'Notifications of your jobs and what became of them.';
grant select on webhooks to nightshift_tenant;

create or replace view tenants with (security_invoker = true) as
    select t.name, t.input_prefixes, t.dest_prefixes, s.weight, usage_now(s.usage) as usage_seconds,
        s.max_leased, (select count(*) from shard x where x.tenant_id = t.id and x.state = 'leased') as n_leased,
        s.max_gpu_ms / 3600000.0::double precision as max_gpu_hours, hours_of_month(s.month, s.month_gpu_ms) as month_gpu_hours,
        (select count(*) from job j where j.tenant_id = t.id and j.state in ('ready', 'paused', 'closing', 'cancelling')) as n_active_jobs,
        t.created_at, t.webhook_prefixes, t.secret_names
    from tenant t join share s on s.tenant_id = t.id;
comment on view tenants is 'Your tenants: where their data may lie, their share, limits, and what they use of them.';
grant select on tenants to nightshift_tenant;

create or replace view logins with (security_invoker = true) as
    select l.rolname as login,
        (select substr(g.rolname, 12) from pg_auth_members m join pg_roles g on g.oid = m.roleid
            where m.member = l.oid and g.rolname in ('nightshift_tenant', 'nightshift_worker', 'nightshift_scheduler') limit 1) as kind,
        array(select t.name from member m join tenant t on t.id = m.tenant_id where m.login = l.rolname order by t.name) as tenants
    from pg_roles l
    where l.rolcanlogin and (exists (select from member m where m.login = l.rolname)
        or exists (select from pg_auth_members m join pg_roles g on g.oid = m.roleid
            where m.member = l.oid and g.rolname in ('nightshift_tenant', 'nightshift_worker', 'nightshift_scheduler')));
comment on view logins is 'For administrators: logins of all kinds; kind is null for one that create_login did not make.';

reset search_path;
reset role;
