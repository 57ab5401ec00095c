-- Webhooks: an outbox that is filled in the transaction that makes the news true, and emptied by the leader.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create or replace function queue_webhooks(j job, what text) returns void language plpgsql set search_path = nightshift, pg_temp as $$
begin
    insert into webhook (event_id, job_id, round, event, n, tenant_id, due_at, url, secret_name, body)
        select u.id, j.id, j.round, what, n.n, j.tenant_id, clock(), n.url, n.secret_name,
            jsonb_build_object('id', u.id, 'event', what, 'at', to_char(clock() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
                'job', jsonb_build_object('id', j.id, 'name', j.name, 'kind', j.kind, 'tenant', t.name, 'state', j.state, 'round', j.round,
                    'dest', j.dest, 'n_items', j.n_items, 'n_ok', c.n_ok, 'n_failed', c.n_failed, 'n_skipped', c.n_skipped, 'errors', j.errors))::text
        from notify n join tenant t on t.id = n.tenant_id join job_cursor c on c.job_id = n.job_id, lateral (select gen_random_uuid() as id) u
        where n.job_id = j.id and what = any (n.events)
        on conflict on constraint webhook_once do nothing;
end $$;
comment on function queue_webhooks(job, text) is 'Writes what happened to a job into the outbox, once in a round.';

create or replace function notify_of_move() returns trigger language plpgsql set search_path = nightshift, pg_temp as $$
begin
    if old.state = 'submitted' and new.resolved_id is not null then
        insert into notify (job_id, n, tenant_id, url, events, secret_name)
            select new.id, e.n, new.tenant_id, e.value ->> 'webhook', array(select jsonb_array_elements_text(e.value -> 'events')), e.value ->> 'secret_env'
            from document d, jsonb_array_elements(d.body::jsonb -> 'notify') with ordinality as e (value, n) where d.id = new.resolved_id;
    end if;
    if old.started_at is null and new.started_at is not null then
        perform queue_webhooks(new, 'started');
    end if;
    if old.state is distinct from new.state and new.state in ('finished', 'finished_with_errors', 'failed', 'cancelled') then
        perform queue_webhooks(new, case when new.state = 'finished_with_errors' then 'finished' else new.state::text end);
    end if;
    return null;
end $$;
comment on function notify_of_move() is 'Trigger: what happens to a job and what is told of it are one transaction.';
create or replace trigger job_notify after update of state, started_at on job for each row
    when (old.state is distinct from new.state or (old.started_at is null and new.started_at is not null)) execute function notify_of_move();

create or replace function notify_of_budgets() returns void language plpgsql set search_path = nightshift, pg_temp as $$
declare
    j job;
begin
    for j in
        select x.* from job x join job_cursor c on c.job_id = x.id
        where x.state in ('ready', 'paused') and x.max_gpu_ms is not null
            and exists (select from notify n where n.job_id = x.id and 'budget_80' = any (n.events))
            and not exists (select from webhook w where w.job_id = x.id and w.round = x.round and w.event = 'budget_80')
            and c.gpu_ms + (select coalesce(sum(s.gpu_ms), 0) from shard s where s.job_id = x.id and (s.state = 'leased' or s.state = 'waiting'))
                >= 0.8 * x.max_gpu_ms
        limit 1000
    loop
        perform queue_webhooks(j, 'budget_80');
    end loop;
end $$;
comment on function notify_of_budgets() is 'Tells of jobs that have used four fifths of limits.max_gpu_hours.';

create or replace function webhook_refusal(for_tenant int, url text, secret_name text) returns refusal
language plpgsql stable set search_path = nightshift, pg_temp as $$
declare
    t tenant;
begin
    select * into t from tenant where id = for_tenant;
    if not is_allowed(url, t.webhook_prefixes) then
        return row('notify', format('notify: tenant %s may not call %s', t.name, url), case when t.webhook_prefixes = '{}'
            then 'no webhook is allowed yet' else 'allowed: ' || array_to_string(t.webhook_prefixes, ', ') end)::refusal;
    elsif secret_name <> all (t.secret_names) then
        return row('notify', format('notify: tenant %s has no secret %s', t.name, secret_name), case when t.secret_names = '{}'
            then 'it has none yet' else 'it has ' || array_to_string(t.secret_names, ', ') end)::refusal;
    end if;
    return null;
end $$;
comment on function webhook_refusal(int, text, text) is 'null, or why a tenant may not be told there or signed so.';

create or replace function notify_refusal(term bigint, job bigint, entries jsonb) returns refusal
language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
begin
    perform check_term(notify_refusal.term);
    return (select r from job j, jsonb_array_elements(entries) e, webhook_refusal(j.tenant_id, e ->> 'webhook', e ->> 'secret_env') r
        where j.id = notify_refusal.job and r.message is not null order by r.message limit 1);
end $$;
comment on function notify_refusal(bigint, bigint, jsonb) is 'null, or why notify of a spec is not allowed: [{"webhook", "events", "secret_env"}].';
grant execute on function notify_refusal(bigint, bigint, jsonb) to nightshift_scheduler;

-- A taken one is due again when its delivery must be over, so that one whose scheduler died is delivered by the next.
create or replace function webhooks_due(term bigint, "limit" int) returns table (id bigint, event_id uuid, url text, secret_name text, body text, attempt int)
language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    w webhook;
    v_refusal refusal;
begin
    perform check_term(webhooks_due.term);
    perform notify_of_budgets();
    for w in select * from webhook x where x.due_at <= clock() order by x.due_at limit least(webhooks_due."limit", 64) for update skip locked loop
        v_refusal := webhook_refusal(w.tenant_id, w.url, w.secret_name);
        if v_refusal.message is not null then
            perform end_webhook(w.id, concat_ws('; ', v_refusal.message, v_refusal.hint));
            continue;
        end if;
        update webhook x set attempts = x.attempts + 1, due_at = clock() + interval '20 seconds' where x.id = w.id;
        select w.id, w.event_id, w.url, w.secret_name, w.body, w.attempts + 1 into id, event_id, url, secret_name, body, attempt;
        return next;
    end loop;
end $$;
comment on function webhooks_due(bigint, int) is
    'Takes notifications to deliver now (64 at most). Answer each with webhook_told within 20 seconds, or it is due again.';
grant execute on function webhooks_due(bigint, int) to nightshift_scheduler;

create or replace function end_webhook(wanted bigint, why text) returns void language plpgsql set search_path = nightshift, pg_temp as $$
declare
    w webhook;
begin
    update webhook set failed_at = clock(), due_at = null, last_error = why where id = wanted returning * into w;
    perform note(w.tenant_id, w.job_id, null, null, 'webhook_failed', format('%s was not told that the job is %s: %s', w.url, w.event, why));
end $$;
comment on function end_webhook(bigint, text) is 'Gives a notification up.';

-- Full jitter: the pause is drawn between nothing and its length, which doubles up to an hour. Twenty attempts are most of a day.
create or replace function webhook_told(term bigint, webhook bigint, attempt int, status int, error text) returns boolean
language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    w webhook;
begin
    perform check_term(webhook_told.term);
    select * into w from webhook x where x.id = webhook_told.webhook and x.attempts = webhook_told.attempt and x.due_at is not null for update;
    if not found then
        return false;
    elsif webhook_told.error is null then
        update webhook x set delivered_at = clock(), due_at = null, last_status = webhook_told.status, last_error = null where x.id = w.id;
    elsif w.attempts >= 20 then
        update webhook x set last_status = webhook_told.status where x.id = w.id;
        perform end_webhook(w.id, webhook_told.error);
    else
        update webhook x set last_status = webhook_told.status, last_error = webhook_told.error,
            due_at = clock() + random() * least(3600, 2 ^ w.attempts) * interval '1 second' where x.id = w.id;
    end if;
    return true;
end $$;
comment on function webhook_told(bigint, bigint, int, int, text) is
    'How a delivery went: error null when the receiver accepted it. False when it was not this attempt''s to say.';
grant execute on function webhook_told(bigint, bigint, int, int, text) to nightshift_scheduler;

reset search_path;
reset role;
