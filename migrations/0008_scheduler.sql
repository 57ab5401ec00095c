-- What the leading scheduler calls: lead, resign, submitted, add_chunk, planned, rejected, tick. All but lead need a live term.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create function lead(holder text, ttl_ms int) returns bigint language plpgsql security definer set search_path = nightshift, pg_temp as $$
declare
    v_term bigint;
begin
    if ttl_ms not between 100 and 3600000 then
        perform refuse(format('a ttl of %s ms is not between 100 ms and an hour', ttl_ms));
    end if;
    update leader l set
        term = l.term + (l.holder <> lead.holder or l.login <> session_user or l.leads_until <= clock())::int,
        holder = lead.holder, login = session_user, leads_until = clock() + ttl_ms * interval '1 millisecond'
        where l.leads_until <= clock() or (l.holder = lead.holder and l.login = session_user)
        returning l.term into v_term;
    return v_term;
end $$;
comment on function lead(text, int) is 'Becomes or stays leader for ttl_ms; the term, or null when another one leads.';

-- The share lock keeps a new leader from starting before this transaction ends.
create function check_term(wanted bigint) returns void language plpgsql set search_path = nightshift, pg_temp as $$
begin
    perform from leader where term = wanted and login = session_user and leads_until > clock() for share;
    if not found then
        perform refuse('another scheduler leads now', code => 'NSLDR');
    end if;
end $$;
comment on function check_term(bigint) is 'The fence of every write of a scheduler.';

create function resign(term bigint) returns void language plpgsql security definer set search_path = nightshift, pg_temp as $$
begin
    perform check_term(resign.term);
    update leader set leads_until = clock();
end $$;
comment on function resign(bigint) is 'Gives leadership back at once.';

create function submitted(term bigint, "limit" int)
returns table (job_id bigint, tenant text, spec_text text, run_date date, run_index bigint, input_prefixes text[], dest_prefixes text[])
language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
begin
    perform check_term(submitted.term);
    return query select j.id, t.name, j.spec_text, j.run_date, j.run_index, t.input_prefixes, t.dest_prefixes
        from job j join tenant t on t.id = j.tenant_id where j.state = 'submitted' order by j.id limit submitted."limit";
end $$;
comment on function submitted(bigint, int) is 'Jobs that wait to be planned, oldest first.';

-- Locks the cursor (the mutex of a job) and says whether the job still waits to be planned.
create function lock_submitted(term bigint, wanted bigint) returns boolean language plpgsql set search_path = nightshift, pg_temp as $$
begin
    perform check_term(lock_submitted.term);
    perform from job_cursor where job_id = wanted for update;
    return exists (select from job where id = wanted and state = 'submitted');
end $$;
comment on function lock_submitted(bigint, bigint) is 'Whether a job may be planned by this term.';

create function add_chunk(term bigint, job bigint, first_row bigint, n_rows int, data bytea) returns boolean
language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
begin
    if not lock_submitted(add_chunk.term, add_chunk.job) then
        return false;
    end if;
    delete from input_chunk c where c.job_id = add_chunk.job and c.first_row >= add_chunk.first_row;
    insert into input_chunk (job_id, first_row, n_rows, data) values (add_chunk.job, add_chunk.first_row, add_chunk.n_rows, add_chunk.data);
    return true;
end $$;
comment on function add_chunk(bigint, bigint, bigint, int, bytea) is
    'Stores gzipped JSON lines of input rows, in order from row 0; what was stored at or after first_row goes. False: not submitted any more.';

create function planned(term bigint, job bigint, plan jsonb, out outcome text, out words text)
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
        shard_items int, max_attempts int, max_failed_items bigint);
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
        max_attempts = p.max_attempts, max_failed_items = p.max_failed_items
        where j.id = planned.job;
    perform note(v_job.tenant_id, v_job.id, null, null, 'ready', format('planned: %s items', p.n_items));
    if p.n_items = 0 then
        perform settle_job(v_job.id);
    else
        perform pg_notify('nightshift_work', v_job.id::text);
    end if;
    outcome := 'ready';
end $$;
comment on function planned(bigint, bigint, jsonb) is
    'Stores a plan. outcome ready; refused, with words to pass to rejected; gone: not submitted any more.';

create function rejected(term bigint, job bigint, errors text) returns boolean
language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
begin
    if not lock_submitted(rejected.term, rejected.job) then
        return false;
    end if;
    delete from input_chunk c where c.job_id = rejected.job;
    perform end_job(rejected.job, 'rejected', rejected.errors);
    return true;
end $$;
comment on function rejected(bigint, bigint, text) is 'Rejects a job with the mistakes as text. False: not submitted any more.';

create function expire_leases() returns bigint language plpgsql set search_path = nightshift, pg_temp as $$
declare
    v_shard shard;
    v_n bigint := 0;
begin
    for v_shard in
        select * from shard where state = 'leased' and leased_until <= clock() order by job_id, shard_no limit 1000 for update skip locked
    loop
        perform end_lease(v_shard, 'lost', 'lease_lost', format('worker %s was not heard for %s ms', v_shard.worker_id, v_shard.lease_ms));
        v_n := v_n + 1;
    end loop;
    return v_n;
end $$;
comment on function expire_leases() is 'Ends leases that ran out; each gets a new token, so its holder is refused from here on.';

create function tick(term bigint, out expired bigint, out settled bigint, out closing bigint, out submitted bigint, out active bigint)
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
        perform from job_cursor where job_id = v_job for update;
        if settle_job(v_job) then
            select tick.settled + is_final(j.state)::int, tick.closing + (j.state = 'closing')::int into settled, closing
                from job j where j.id = v_job;
        end if;
    end loop;
    select count(*) into submitted from job where state = 'submitted';
    select count(*) into active from job where state in ('ready', 'paused', 'closing', 'cancelling');
end $$;
comment on function tick(bigint) is 'Expires leases and settles jobs. Level-triggered: it looks at what is stored, so a missed tick only delays.';

grant execute on function lead(text, int), resign(bigint), submitted(bigint, int), add_chunk(bigint, bigint, bigint, int, bytea),
    planned(bigint, bigint, jsonb), rejected(bigint, bigint, text), tick(bigint) to nightshift_scheduler;

reset search_path;
reset role;
