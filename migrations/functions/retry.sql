-- Ended jobs that go on: failed items, or what a cancelled job never ran.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

-- Deletes the failed items that `which` names and counts them off their shards, which are ended, so the job's counters
-- move too. Returns how many. One that killed workers runs alone at once.
create or replace function take_back_items(wanted bigint, which text) returns bigint language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_n bigint;
begin
    with gone as (
        delete from item where job_id = wanted and status = 'failed' and case
            when which = 'failed' then true
            when which like 'code:%' then error_code = substr(which, 6)
            else index = which::bigint end
        returning shard_no, index, error_code
    ), per_shard as (
        select shard_no, count(*)::int as n, array_agg(index) filter (where error_code = 'kills_worker') as killers
        from gone group by shard_no
    ), counted as (
        update shard s set n_failed = s.n_failed - p.n, suspects = s.suspects || p.killers || p.killers
        from per_shard p where s.job_id = wanted and s.shard_no = p.shard_no
    )
    select coalesce(sum(n), 0) into v_n from per_shard;
    update job_cursor set n_failed = n_failed - v_n where job_id = wanted;
    return v_n;
end $$;
comment on function take_back_items(bigint, text) is 'Deletes failed items so that they run again.';

-- A report that comes late for one of its shards keeps that row locked until it ends, and may wait for the cursor of another job. So who
-- holds the cursor does not wait for the shards that run again, but gives it up and comes back.
create or replace function retry(job bigint, "only" text default 'failed') returns bigint
language plpgsql security definer set search_path = nightshift, pg_temp as $$
declare
    v_job job;
    v_refusal refusal;
    v_n bigint;
    v_shard shard;
    v_open boolean := false;
begin
    loop
        begin
            v_job := lock_own_job(retry.job);
            exit when not is_final(v_job.state);
            perform from shard where job_id = v_job.id and (kind = 'close' or n_failed > 0 or n_ok + n_failed + n_skipped < end_item - first_item)
                for update nowait;
            exit;
        exception when lock_not_available then
            perform pg_sleep(0.01);
        end;
    end loop;
    if "only" is null or ("only" <> 'failed' and "only" not like 'code:_%' and "only" !~ '^[0-9]{1,18}$') then
        perform refuse(format('retry cannot read only = %L', "only"), 'use ''failed'', ''code:<error code>'' or an item index');
    elsif v_job.state not in ('finished', 'finished_with_errors', 'failed', 'cancelled') then
        perform refuse(format('job %s is %s; only an ended job can be retried', v_job.id, v_job.state));
    elsif v_job.planned_at is null then
        perform refuse(format('job %s was cancelled before it was planned', v_job.id), 'submit its spec again');
    end if;
    v_n := take_back_items(v_job.id, "only");
    if v_n = 0 and (v_job.state in ('finished', 'finished_with_errors') or "only" <> 'failed') then
        perform refuse(format('job %s has no failed item that matches only = %L', v_job.id, "only"),
            format('select error_code, count(*) from nightshift.items where job_id = %s and status = ''failed'' group by 1', v_job.id));
    end if;
    -- Its own objects are there already: what `refuse` guards against was settled when the job was planned.
    v_refusal := take_destination(v_job.id, v_job.tenant_id, v_job.dest, 'refuse');
    if v_refusal.message is not null then
        perform refuse(format('job %s lost its destination. %s', v_job.id, concat_ws('; ', v_refusal.message, v_refusal.hint)), 'submit its spec again');
    end if;
    delete from shard where job_id = v_job.id and kind = 'close';
    for v_shard in
        update shard set state = 'waiting', ready_at = clock(), finished_at = null, n_failed_attempts = 0, n_lost_attempts = 0
            where job_id = v_job.id and n_ok + n_failed + n_skipped < end_item - first_item returning *
    loop
        perform fold(v_shard, -1);
        v_open := true;
    end loop;
    v_open := v_open or exists (select from job_cursor where job_id = v_job.id and next_item < v_job.n_items);
    update job set state = (case when v_open then 'ready' else 'closing' end)::job_state, round = round + 1, finished_at = null,
        errors = null, stopping = null, owns_dest = true where id = v_job.id;
    perform note(v_job.tenant_id, v_job.id, null, null, 'retried', format('%s retries %s failed items', session_user, v_n));
    perform settle_job(v_job.id);
    perform pg_notify('nightshift_work', v_job.id::text);
    return v_n;
end $$;
comment on function retry(bigint, text) is
    'Runs failed items again (only: failed, code:<error code>, or an item index), and what a cancelled or failed job never ran. Returns how many failed items were taken back.';
grant execute on function retry(bigint, text) to nightshift_tenant;

reset search_path;
reset role;
