-- What the leader does about twice a second: ends leases that ran out, closes windows, stops late jobs, asks for the rest of long shards.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

-- Engine time is shared by the pictures in the making, so a picture is in its slot for about as many times its own as there are slots.
create or replace function item_ms(wanted bigint) returns bigint language sql stable set search_path = nightshift, pg_temp as $$
    select (percentile_disc(0.9) within group (order by i.gpu_ms))::bigint * greatest(1, (
            select max(case when jsonb_typeof(w.info -> 'slots') = 'number' then (w.info ->> 'slots')::numeric end)
            from shard s join worker w on w.id = s.worker_id where s.job_id = wanted and s.state = 'leased'))::bigint
        from (select gpu_ms from item where job_id = wanted and gpu_ms is not null order by index desc limit 100) i
$$;
comment on function item_ms(bigint) is 'How long nine of ten items of a job lately took, in milliseconds; null when none was measured.';

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
comment on function expire_leases() is 'Ends leases that ran out; each gets a new token, so its holder is refused from here on.';

create or replace function stop_late_jobs() returns void language plpgsql set search_path = nightshift, pg_temp as $$
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

create or replace function narrow_windows() returns void language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_now timestamptz := clock();
    v_job record;
    v_closes_at timestamptz;
begin
    for v_job in
        select j.id, j.opens_at, j.closes_at, j.window_closes_at from job j
        where j.state = 'ready' and j.time_window is not null and j.time_window ->> 'when_closes' = 'pause'
            and j.opens_at <= v_now and j.closes_at > v_now and j.window_closes_at < v_now + interval '6 hours'
            and exists (select from shard s where s.job_id = j.id and s.state = 'leased')
        order by j.id limit 1000
    loop
        v_closes_at := greatest(v_job.opens_at, v_job.window_closes_at - coalesce(item_ms(v_job.id), 0) * interval '1 millisecond');
        if abs(extract(epoch from v_closes_at - v_job.closes_at)) > 1 then
            perform from job_cursor where job_id = v_job.id for update skip locked;
            if found then
                update job set closes_at = v_closes_at where id = v_job.id and closes_at > v_now;
            end if;
        end if;
    end loop;
end $$;
comment on function narrow_windows() is
    'Ends a window of the rule pause as much earlier as an item takes, so that none is begun that would last beyond its end.';

-- A job without items is closing from the start, and waits all the same.
create or replace function free_dependents() returns void language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_job record;
    v_other record;
begin
    for v_job in select id, after from job where after <> '{}' and state in ('ready', 'paused', 'closing') and started_at is null order by id limit 1000 loop
        select id, state into v_other from job where id = any (v_job.after) and state in ('rejected', 'cancelled', 'failed') order by id limit 1;
        if found then
            perform from job_cursor where job_id = v_job.id for update skip locked;
            if found and exists (select from job where id = v_job.id and state in ('ready', 'paused', 'closing') and started_at is null) then
                perform stop_job(v_job.id, format('job %s, which it waits for, is %s', v_other.id, v_other.state));
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

-- A worker that has nothing in hand and no lease found nothing to claim. The longest shard of a job it could work at is asked for, like a
-- preempted one, if it has 20 seconds and four times the slots of its holder ahead: what waits then is cut for whoever claims.
-- One shard of a job at a time, and none whose worker is just speaking: the next tick looks again.
create or replace function share_tails() returns void language plpgsql as $$
declare
    v_now timestamptz := clock();
    l record;
begin
    for l in with leased as materialized (
            select s.job_id, s.shard_no, s.tenant_id, s.worker_id, s.kind, s.preempt,
                s.end_item - s.first_item - s.n_ok - s.n_failed - s.n_skipped - cardinality(s.in_flight) as rest
            from shard s where s.state = 'leased'
        ), idle as materialized (
            select u.* from (select * from worker order by id desc limit 1000) u
            where u.seen_at > v_now - interval '10 seconds' and not u.drain and coalesce(u.health -> 'items', '[]') = '[]'
                and u.id not in (select worker_id from leased)
        )
        select distinct on (s.job_id) s.job_id, s.shard_no
        from leased s join job_cursor c on c.job_id = s.job_id join job j on j.id = s.job_id join share t on t.tenant_id = s.tenant_id
            join worker h on h.id = s.worker_id, lateral (select s.rest * coalesce(told_ms(h.health, s.job_id), 10000) as ms) ahead
        where s.kind = 'items' and c.shard_items = 0 and c.next_item >= c.n_items and not c.open and j.state = 'ready' and not j.held
            and c.opens_at <= v_now and c.closes_at > v_now and s.rest >= 4 * slots_of(h.info) and ahead.ms >= 20000
            and not exists (select from leased o where o.job_id = s.job_id and o.preempt)
            and exists (select from idle u where u.models ? c.model_key and (c.fingerprint is null or c.fingerprint = u.models ->> c.model_key)
                and c.labels <@ u.labels and c.min_memory_bytes <= u.memory_bytes)
            and (t.max_leased is null or t.max_leased > (select count(*) from leased o where o.tenant_id = s.tenant_id))
            and (t.max_gpu_ms is null or t.month_gpu_ms < t.max_gpu_ms or t.month < date_trunc('month', v_now at time zone 'UTC')::date)
        order by s.job_id, ahead.ms desc, s.shard_no limit 16
    loop
        update shard set preempt = true where (job_id, shard_no) = (select s.job_id, s.shard_no from shard s
            where s.job_id = l.job_id and s.shard_no = l.shard_no and s.state = 'leased' for update skip locked);
    end loop;
end $$;
comment on function share_tails() is 'Asks for the longest shard of a job whose rest idle workers could share.';

create or replace function preempt_for_waiting() returns void language plpgsql set search_path = nightshift, pg_temp as $$
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
            order by l.priority, s.job_id desc, s.shard_no desc limit 1 for update of s skip locked)
            and state = 'leased' and not exists (select from shard s join job_cursor l on l.job_id = s.job_id
                where s.state = 'leased' and s.preempt and l.priority < c.priority);
    end loop;
    perform share_tails();
end $$;
comment on function preempt_for_waiting() is 'Asks a worker that has less urgent work to give it back for a job that nobody has begun.';

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
comment on function tick(bigint) is 'Expires leases and settles jobs. Level-triggered: it looks at what is stored, so a missed tick only delays.';
grant execute on function tick(bigint) to nightshift_scheduler;

reset search_path;
reset role;
