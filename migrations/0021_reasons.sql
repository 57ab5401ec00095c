-- Why a job waits, in words, for every cause; and who goes before whom.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create function local_time(at timestamptz, zone text) returns text language plpgsql stable set search_path = nightshift, pg_temp as $$
begin
    return to_char(at at time zone zone, 'YYYY-MM-DD HH24:MI ') || zone;
exception when invalid_parameter_value then -- this server's zones are older than ours
    return to_char(at at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"');
end $$;
comment on function local_time(timestamptz, text) is 'A moment on the wall clock of a zone, which is named.';

create function engine_hours(ms double precision) returns text language sql immutable parallel safe as $$
    select trim(to_char(ms / 3600000, 'FM999999990.99'), '.')
$$;
comment on function engine_hours(double precision) is 'Engine milliseconds as hours.';

create function window_reason(j job) returns text language plpgsql stable set search_path = nightshift, pg_temp as $$
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

create function tenant_reason(tenant int) returns text language plpgsql stable set search_path = nightshift, pg_temp as $$
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

-- Each count is of the workers that also passed the ones before it.
create function worker_reason(j job, fingerprint text) returns text language plpgsql stable set search_path = nightshift, pg_temp as $$
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

create function ahead_reason(j job) returns text language plpgsql stable set search_path = nightshift, pg_temp as $$
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

create function unplanned_reason(j job) returns text language plpgsql stable set search_path = nightshift, pg_temp as $$
begin
    return case when exists (select from leader where leads_until > clock()) then 'waits to be planned' else 'waits to be planned; no scheduler is running' end;
end $$;
comment on function unplanned_reason(job) is 'Why a job is not planned yet.';

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
        return format('paused; select nightshift.resume(%s)', j.id);
    elsif j.state = 'cancelling' then
        return format('stopping; shards still leased: %s', v_n_leased);
    elsif j.held then
        return format('held; select nightshift.release(%s)', j.id);
    end if;
    select min(ready_at) into v_ready_at from shard where job_id = wanted and state = 'waiting';
    v_open := coalesce(v_ready_at <= v_now, false) or (j.state = 'ready' and exists (select from job_cursor c where c.job_id = wanted and c.next_item < j.n_items));
    if v_n_leased > 0 and not v_open then
        return case when v_ready_at is null then 'all remaining shards are leased'
            else format('the remaining shards are leased, or back off until %s', to_char(v_ready_at at time zone 'UTC', 'HH24:MI:SS "UTC"')) end;
    elsif v_n_leased > 0 then
        return null;
    end if;
    v_words := prefix_refusal(j.tenant_id, j.dest, j.inputs);
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

create or replace function versions(out protocol int, out protocol_oldest int, out schema int) language sql immutable parallel safe
    as $$ select 1, 1, 21 $$;

reset search_path;
reset role;
