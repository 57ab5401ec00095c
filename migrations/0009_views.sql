-- The read API. Views run with the rights of the reader, so row-level security applies.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

-- Reads workers and the clock, which readers may not: hence a function of the owner, which checks the tenant itself.
create function waits_for(wanted bigint) returns text language plpgsql stable security definer set search_path = nightshift, pg_temp as $$
declare
    j job;
    v_now timestamptz := clock();
    v_n_leased bigint;
    v_ready_at timestamptz;
    v_open boolean;
    v_fingerprint text;
    v_models record;
begin
    select * into j from job where id = wanted and state not in ('rejected', 'cancelled', 'finished', 'finished_with_errors', 'failed')
        and (tenant_id in (select my_tenants()) or pg_has_role(session_user, 'nightshift_owner', 'member'));
    if not found then
        return null;
    end if;
    select count(*) into v_n_leased from shard where job_id = wanted and state = 'leased';
    if j.state = 'submitted' then
        return case when exists (select from leader where leads_until > v_now) then 'waits to be planned' else 'waits to be planned; no scheduler is running' end;
    elsif j.state = 'paused' then
        return format('paused; select nightshift.resume(%s)', j.id);
    elsif j.state = 'cancelling' then
        return format('stopping; shards still leased: %s', v_n_leased);
    elsif j.held then
        return format('held; select nightshift.release(%s)', j.id);
    end if;
    select min(ready_at) into v_ready_at from shard where job_id = wanted and state = 'waiting';
    v_open := coalesce(v_ready_at <= v_now, false) or exists (select from job_cursor c where c.job_id = wanted and c.next_item < j.n_items);
    if v_n_leased > 0 and not v_open then
        return case when v_ready_at is null then 'all remaining shards are leased'
            else format('the remaining shards are leased, or back off until %s', to_char(v_ready_at at time zone 'UTC', 'HH24:MI:SS "UTC"')) end;
    elsif v_n_leased > 0 then
        return null;
    elsif prefix_refusal(j.tenant_id, j.dest, j.inputs) is not null then
        return prefix_refusal(j.tenant_id, j.dest, j.inputs);
    end if;
    select sha256 into v_fingerprint from fingerprint where id = j.fingerprint_id;
    select count(*) as n, count(*) filter (where models ? j.model_key) as n_model,
        count(*) filter (where models ? j.model_key and (v_fingerprint is null or models ->> j.model_key = v_fingerprint)) as n_print,
        count(*) filter (where models ? j.model_key and (v_fingerprint is null or models ->> j.model_key = v_fingerprint) and not drain) as n_free
        into v_models from worker where seen_at > v_now - interval '1 minute';
    return case
        when v_models.n = 0 then 'no worker is running'
        when v_models.n_model = 0 then format('no running worker has model %s', j.model_key)
        when v_models.n_print = 0 then format('pinned to engine %s since its first shard; no running worker has it', left(v_fingerprint, 12))
        when v_models.n_free = 0 then format('every worker with model %s is draining', j.model_key)
        when not v_open then format('backs off until %s', to_char(v_ready_at at time zone 'UTC', 'HH24:MI:SS "UTC"'))
        else 'waits for a free worker' end;
end $$;
comment on function waits_for(bigint) is 'Why a job does not run, in words; null when it does or has ended.';

create function worker_state(seen timestamptz, drain boolean) returns text language sql stable security definer set search_path = nightshift, pg_temp as $$
    select case when seen < clock() - interval '1 minute' then 'gone' when drain then 'draining' else 'live' end
$$;
comment on function worker_state(timestamptz, boolean) is 'live, draining, or gone: silent for a minute.';
grant execute on function waits_for(bigint), worker_state(timestamptz, boolean), is_final(job_state) to nightshift_tenant;

create view jobs with (security_invoker = true) as
    select j.id, t.name as tenant, j.name, j.kind, j.state, j.held, waits_for(j.id) as reason, j.priority, j.n_items,
        c.n_ok + open.n_ok as n_ok, c.n_failed + open.n_failed as n_failed, c.n_skipped + open.n_skipped as n_skipped,
        open.n_in_flight, open.n_leased, j.dest, j.errors, j.warnings, j.round, j.labels, j.model_key, f.sha256 as fingerprint, j.n_rows,
        j.submitted_by, j.idempotency_key, j.submitted_at, j.planned_at, j.started_at, j.finished_at
    from job j join tenant t on t.id = j.tenant_id join job_cursor c on c.job_id = j.id left join fingerprint f on f.id = j.fingerprint_id,
    lateral (
        select coalesce(sum(s.n_ok), 0)::bigint as n_ok, coalesce(sum(s.n_failed), 0)::bigint as n_failed, coalesce(sum(s.n_skipped), 0)::bigint as n_skipped,
            coalesce(sum(cardinality(s.in_flight)), 0)::bigint as n_in_flight, count(*) filter (where s.state = 'leased') as n_leased
        from (select * from shard where job_id = j.id and state = 'leased' union all select * from shard where job_id = j.id and state = 'waiting') s
    ) open;
comment on view jobs is 'Jobs of your tenants; reason says why one does not run.';

create view specs with (security_invoker = true) as
    select id as job_id, spec_text, encode(spec_sha256, 'hex') as spec_sha256, resolved, inputs from job;
comment on view specs is 'Specs as submitted and as resolved (they are long, so they are not in jobs).';

create view items with (security_invoker = true) as
    select i.job_id, i.index, i.status, encode(i.item_id, 'hex') as item_id, i.seed, i.error_code, i.error_message, i.artifacts, i.shard_no, i.attempt::int as attempt,
        a.worker_id, i.gpu_ms, i.tokens, i.steps, f.sha256 as fingerprint, i.info, i.finished_at
    from item i left join fingerprint f on f.id = i.fingerprint_id
        left join attempt a on a.job_id = i.job_id and a.shard_no = i.shard_no and a.attempt = i.attempt;
comment on view items is 'Finished items: ok, failed or skipped.';

create view outputs with (security_invoker = true) as
    select i.job_id, i.index, encode(i.item_id, 'hex') as item_id, a.role, j.dest || a.key as uri, a.key, a.bytes, encode(a.sha256, 'hex') as sha256, a.n
    from item i join job j on j.id = i.job_id, unnest(i.artifacts) with ordinality as a (role, key, bytes, sha256, n);
comment on view outputs is 'Stored objects, one row each; n counts them within their item.';

create view events with (security_invoker = true) as
    select e.id, e.at, t.name as tenant, e.job_id, e.shard_no, e.worker_id, e.what, e.message from event e join tenant t on t.id = e.tenant_id;
comment on view events is 'What happened to jobs.';

create view shards with (security_invoker = true) as
    select s.job_id, s.shard_no, s.kind, s.state, s.first_item, s.end_item, s.n_ok, s.n_failed, s.n_skipped, s.in_flight, s.attempt,
        s.n_failed_attempts, s.n_lost_attempts, s.worker_id, s.ready_at, s.leased_until, s.finished_at from shard s;
comment on view shards is 'Shards that were claimed at least once.';

create view attempts with (security_invoker = true) as
    select a.job_id, a.shard_no, a.attempt, a.round, a.worker_id, w.name as worker, a.outcome, a.code, a.message, a.started_at, a.ended_at
    from attempt a left join worker w on w.id = a.worker_id;
comment on view attempts is 'Leases of shards and how they ended.';

create view logs with (security_invoker = true) as
    select l.id, l.at, l.job_id, l.shard_no, l.attempt, l.text from attempt_log l;
comment on view logs is 'Log lines of attempts.';

create view workers with (security_invoker = true) as
    select w.id, w.name, worker_state(w.seen_at, w.drain) as state, w.models, w.info, w.health,
        (select count(*) from shard s where s.state = 'leased' and s.worker_id = w.id) as n_leased, w.registered_at, w.seen_at
    from worker w;
comment on view workers is 'Workers; n_leased counts shards of jobs you may see.';

grant select on jobs, specs, items, outputs, events, shards, attempts, logs, workers to nightshift_tenant;

reset search_path;
reset role;
