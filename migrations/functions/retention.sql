-- Weekly partitions of events, and the removal of jobs that ended long ago.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create or replace function add_event_partition(week timestamptz) returns boolean language plpgsql as $$
declare
    v_name text := 'event_' || to_char(week at time zone 'UTC', 'YYYYMMDD');
    v_end timestamptz := week + interval '168 hours';
begin
    if to_regclass('nightshift.' || v_name) is not null then
        return false;
    end if;
    execute format('create table %I (like event including defaults including constraints including comments)', v_name);
    execute format('alter table %I enable row level security', v_name);
    execute format('comment on table %I is %L', v_name, 'Events of a week.');
    execute format('with moved as (delete from event_rest where at >= %L and at < %L returning *) insert into %I select * from moved', week, v_end, v_name);
    execute format('alter table event attach partition %I for values from (%L) to (%L)', v_name, week, v_end);
    return true;
exception when invalid_object_definition then
    return false; -- another partition holds this week
end $$;
comment on function add_event_partition(timestamptz) is 'Makes the partition of the week that begins then (Monday, UTC). False when there is one.';

-- Attaching waits for readers of the default partition, and others would wait behind it: rather try again later.
create or replace function keep_events(term bigint) returns int
language plpgsql security definer set search_path = nightshift, pg_temp set lock_timeout = '1s' as $$
declare
    v_week timestamptz := date_trunc('week', clock(), 'UTC');
begin
    perform check_term(keep_events.term);
    return add_event_partition(v_week)::int + add_event_partition(v_week + interval '168 hours')::int;
end $$;
comment on function keep_events(bigint) is
    'Sees that this week and the next have a partition for their events; returns how many were made. Call it about once an hour.';
grant execute on function keep_events(bigint) to nightshift_scheduler;

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
comment on function begin_prune(bigint, timestamptz) is 'Takes the mutex of an ended job and marks it as going; false when it is busy or goes on.';

create or replace function drop_documents() returns void language plpgsql as $$
begin
    lock table document in share row exclusive mode nowait;
    delete from document d where not exists (select from job j where j.spec_id = d.id) and not exists (select from job j where j.resolved_id = d.id);
exception when lock_not_available then
    null; -- somebody submits or plans: the next call does it
end $$;
comment on function drop_documents() is 'Deletes the documents that no job has any more.';

-- A partition that somebody reads goes another time: whoever writes an event would wait behind the one who waits to drop it.
create or replace function drop_events(before timestamptz) returns int
language plpgsql set search_path = nightshift, pg_temp set lock_timeout = '250ms' as $$
declare
    v_name name;
    v_n int := 0;
begin
    for v_name in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'event'::regclass
            and substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \(''(.*)''\)')::timestamptz <= before
        order by c.relname
    loop
        begin
            execute format('drop table %I', v_name);
            v_n := v_n + 1;
        exception when lock_not_available then
            null;
        end;
    end loop;
    return v_n;
end $$;
comment on function drop_events(timestamptz) is 'Drops the partitions whose events are all older; returns how many.';

create or replace function prune_aged(older_than interval, max_rows int default 10000, out jobs bigint, out items bigint, out attempts bigint, out logs bigint,
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
comment on function prune_aged(interval, int) is 'What prune does when the age is not too short.';

create or replace function prune(older_than interval, max_rows int default 10000, out jobs bigint, out items bigint, out attempts bigint, out logs bigint,
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

reset search_path;
reset role;
