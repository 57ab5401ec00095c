-- What people read: workers that ended are gone at once, jobs have a name from the first look on, refusals say no more than they have to say,
-- and prune keeps its hands off what is young.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

-- An empty HINT or DETAIL is a line of its own in psql.
create or replace function refuse(message text, hint text default null, detail text default null, code text default 'NSREF') returns void
language plpgsql as $$
begin
    if hint is not null and detail is not null then
        raise exception using errcode = code, message = message, hint = hint, detail = detail;
    elsif hint is not null then
        raise exception using errcode = code, message = message, hint = hint;
    elsif detail is not null then
        raise exception using errcode = code, message = message, detail = detail;
    end if;
    raise exception using errcode = code, message = message;
end $$;

-- Everyone takes a worker that was silent for a minute for gone.
create function leave(worker bigint) returns boolean language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
begin
    update worker w set seen_at = clock() - interval '61 seconds' where w.id = leave.worker and w.login = session_user;
    return found;
end $$;
comment on function leave(bigint) is
    'A worker says that it ends: it counts as gone at once. Leases that it still has run out by themselves. False: this login registered no such worker.';
comment on column worker.seen_at is 'When it was last heard, exact to a second; a worker that left counts as silent for more than a minute.';
grant execute on function leave(bigint) to nightshift_worker;

-- A rejected job has a name, too, where its spec shows one.
alter table job drop constraint job_plan_whole,
    add constraint job_plan_whole check (num_nulls(planned_at, model_key, dest, n_rows, n_items, shard_items, max_attempts,
        resolved_id, allow_mixed, on_existing, priority, inputs, labels, warnings, worker_labels, min_memory_bytes, after, opens_at, closes_at,
        window_closes_at, backoff_ms, max_backoff_ms, jitter) in (0, 23) and (planned_at is null or num_nulls(name, kind) = 0));

drop function rejected(bigint, bigint, text);
create function rejected(term bigint, job bigint, errors text, name text default null, kind text default null) returns boolean
language plpgsql security definer set search_path = nightshift, pg_temp as $$
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

alter table schedule add column kind text;
comment on column schedule.kind is 'Kind of the spec; null: the schedule was made before this was kept.';

drop function recur(bigint, bigint, text, text, text);
create function recur(term bigint, job bigint, name text, cron text, when_still_running text, kind text default null) returns boolean
language plpgsql security definer set search_path = nightshift, pg_temp as $$
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

-- A run that is not planned yet has the name and the kind of its schedule.
create or replace view jobs with (security_invoker = true) as
    select j.id, t.name as tenant, coalesce(j.name, r.name) as name, coalesce(j.kind, r.kind) as kind, j.state, j.held,
        waits_for(j.id) as reason, coalesce(j.priority, 0) as priority, j.n_items,
        coalesce(c.n_ok, 0) + open.n_ok as n_ok, coalesce(c.n_failed, 0) + open.n_failed as n_failed,
        coalesce(c.n_skipped, 0) + open.n_skipped as n_skipped,
        open.n_in_flight, open.n_leased, j.dest, j.errors, coalesce(j.warnings, '') as warnings, j.round, coalesce(j.labels, '{}') as labels,
        j.model_key, f.sha256 as fingerprint, j.n_rows, j.submitted_by, j.idempotency_key, j.submitted_at, j.planned_at, j.started_at, j.finished_at
    from job j join tenant t on t.id = j.tenant_id left join job_cursor c on c.job_id = j.id left join fingerprint f on f.id = j.fingerprint_id
        left join schedule r on r.id = j.schedule_id,
    lateral (
        select coalesce(sum(s.n_ok), 0)::bigint as n_ok, coalesce(sum(s.n_failed), 0)::bigint as n_failed, coalesce(sum(s.n_skipped), 0)::bigint as n_skipped,
            coalesce(sum(cardinality(s.in_flight)), 0)::bigint as n_in_flight, count(*) filter (where s.state = 'leased') as n_leased
        from (select * from shard where job_id = j.id and state = 'leased' union all select * from shard where job_id = j.id and state = 'waiting') s
    ) open;

alter function prune(interval, int) rename to prune_aged;
comment on function prune_aged(interval, int) is 'What prune does when the age is not too short.';

create function prune(older_than interval, max_rows int default 10000, out jobs bigint, out items bigint, out attempts bigint, out logs bigint,
    out shards bigint, out chunks bigint, out workers bigint, out event_partitions bigint, out more boolean)
language plpgsql set search_path = nightshift, pg_temp as $$
begin
    -- A worker that is running was heard within a minute, and whoever waited for a job has seen its end within the hour.
    if older_than is null or older_than < interval '1 hour' then
        perform refuse(format('prune takes an age of at least an hour, not %s', coalesce(older_than::text, 'null')),
            'what ended less than an hour ago may still be read by who waits for it, and younger workers may be running');
    end if;
    select * into jobs, items, attempts, logs, shards, chunks, workers, event_partitions, more from prune_aged(older_than, max_rows);
end $$;
comment on function prune(interval, int) is
    'Removes jobs that ended longer ago than this (an hour or more), with all their rows, about max_rows in one call; then workers not seen since, and whole weeks of events. Call it until more is false.';

create or replace function versions(out protocol int, out protocol_oldest int, out schema int) language sql immutable parallel safe
    as $$ select 1, 1, 36 $$;

reset search_path;
reset role;
