-- notify: who is told of what, an outbox filled in the transaction that makes it true, and its delivery by the leading scheduler.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

alter table tenant
    add column webhook_prefixes text[] not null default '{}',
    add column secret_names text[] not null default '{}';
comment on column tenant.webhook_prefixes is 'URL prefixes that notify may call; empty allows none, https:// allows every host.';
comment on column tenant.secret_names is 'Names of secrets that it may sign with: variables in the environment of the scheduler.';

create or replace function set_tenant(name text, settings jsonb default '{}', new boolean default false) returns void
language plpgsql set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    t tenant;
    v_unknown text;
begin
    select string_agg(k, ', ') into v_unknown from jsonb_object_keys(settings) k
        where k not in ('input_prefixes', 'dest_prefixes', 'weight', 'max_leased', 'max_gpu_hours', 'webhook_prefixes', 'secret_names');
    if v_unknown is not null then
        perform refuse(format('a tenant has no setting %s', v_unknown), 'set input_prefixes, dest_prefixes, webhook_prefixes, secret_names, weight, max_leased, max_gpu_hours');
    elsif settings ? 'weight' and coalesce((settings ->> 'weight')::double precision, 0) <= 0 then
        perform refuse(format('%s is not a weight', settings ->> 'weight'), 'a weight is a number above 0; most tenants have 1');
    elsif exists (select from jsonb_array_elements_text(coalesce(settings -> 'webhook_prefixes', '[]')) p where p !~ '^https?://') then
        perform refuse('a webhook prefix begins with https:// or http://');
    elsif exists (select from jsonb_array_elements_text(coalesce(settings -> 'secret_names', '[]')) p where p !~ '^[A-Z_][A-Z0-9_]*$') then
        perform refuse('a secret is named like an environment variable', 'its value is set where the scheduler runs');
    elsif (settings ->> 'max_leased')::int < 0 or (settings ->> 'max_gpu_hours')::numeric < 0 then
        perform refuse('a limit is a number of at least 0', 'null lifts it');
    end if;
    select * into t from tenant x where x.name = set_tenant.name;
    if set_tenant.new and t.id is not null then
        perform refuse(format('there is a tenant %s already', set_tenant.name), format('change it: nightshift admin tenant set %s', set_tenant.name));
    elsif not set_tenant.new and t.id is null then
        perform refuse(format('there is no tenant %s', set_tenant.name), code => 'NSNOF');
    elsif set_tenant.new then
        perform create_tenant(set_tenant.name);
        select * into t from tenant x where x.name = set_tenant.name;
    end if;
    if settings ?| array['input_prefixes', 'dest_prefixes'] then
        perform set_prefixes(set_tenant.name,
            case when settings ? 'input_prefixes' then array(select jsonb_array_elements_text(settings -> 'input_prefixes')) else t.input_prefixes end,
            case when settings ? 'dest_prefixes' then array(select jsonb_array_elements_text(settings -> 'dest_prefixes')) else t.dest_prefixes end);
    end if;
    update tenant x set
        webhook_prefixes = case when settings ? 'webhook_prefixes' then array(select jsonb_array_elements_text(settings -> 'webhook_prefixes')) else x.webhook_prefixes end,
        secret_names = case when settings ? 'secret_names' then array(select jsonb_array_elements_text(settings -> 'secret_names')) else x.secret_names end
        where x.id = t.id and settings ?| array['webhook_prefixes', 'secret_names'];
    update share s set
        weight = case when settings ? 'weight' then (settings ->> 'weight')::double precision else s.weight end,
        max_leased = case when settings ? 'max_leased' then (settings ->> 'max_leased')::int else s.max_leased end,
        max_gpu_ms = case when settings ? 'max_gpu_hours' then round((settings ->> 'max_gpu_hours')::numeric * 3600000)::bigint else s.max_gpu_ms end
        where s.tenant_id = t.id and settings ?| array['weight', 'max_leased', 'max_gpu_hours'];
end $$;
comment on function set_tenant(text, jsonb, boolean) is
    'Changes the given settings of a tenant (input_prefixes, dest_prefixes, webhook_prefixes, secret_names, weight, max_leased, max_gpu_hours; null lifts a limit); new makes it first.';

create or replace view tenants with (security_invoker = true) as
    select t.name, t.input_prefixes, t.dest_prefixes, s.weight, usage_now(s.usage) as usage_seconds,
        s.max_leased, (select count(*) from shard x where x.tenant_id = t.id and x.state = 'leased') as n_leased,
        s.max_gpu_ms / 3600000.0::double precision as max_gpu_hours, hours_of_month(s.month, s.month_gpu_ms) as month_gpu_hours,
        (select count(*) from job j where j.tenant_id = t.id and j.state in ('ready', 'paused', 'closing', 'cancelling')) as n_active_jobs,
        t.created_at, t.webhook_prefixes, t.secret_names
    from tenant t join share s on s.tenant_id = t.id;

create table notify (
    job_id bigint not null references job on delete cascade,
    n int not null,
    tenant_id int not null,
    url text not null,
    events text[] not null,
    secret_name text,
    primary key (job_id, n)
);
comment on table notify is 'The notify entries of planned jobs.';
comment on column notify.job_id is 'The job.';
comment on column notify.n is 'Place in the spec, from 1.';
comment on column notify.tenant_id is 'Tenant of the job.';
comment on column notify.url is 'Where to.';
comment on column notify.events is 'Of what: started, finished, failed, cancelled, budget_80.';
comment on column notify.secret_name is 'Name of the secret that signs; null: unsigned.';

create table webhook (
    id bigint generated always as identity primary key,
    event_id uuid not null default gen_random_uuid(),
    job_id bigint not null references job on delete cascade,
    round int not null,
    event text not null,
    n int not null,
    tenant_id int not null,
    attempts int not null default 0,
    last_status int,
    created_at timestamptz not null default clock(),
    due_at timestamptz,
    delivered_at timestamptz,
    failed_at timestamptz,
    url text not null,
    secret_name text,
    body text not null,
    last_error text,
    constraint webhook_once unique (job_id, round, event, n),
    constraint webhook_end check ((due_at is null) = (num_nonnulls(delivered_at, failed_at) = 1))
) with (fillfactor = 70, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0.02);
create index webhook_due on webhook (due_at) where due_at is not null;
comment on table webhook is 'Outbox of notifications: a row is written with what it tells, and delivered at least once.';
comment on column webhook.id is 'Identity.';
comment on column webhook.event_id is 'What the receiver knows it by: the same at every delivery.';
comment on column webhook.job_id is 'The job.';
comment on column webhook.round is 'Round of the job.';
comment on column webhook.event is 'What happened.';
comment on column webhook.n is 'Entry of notify.';
comment on column webhook.tenant_id is 'Tenant of the job.';
comment on column webhook.attempts is 'Deliveries begun.';
comment on column webhook.last_status is 'HTTP status of the last answer.';
comment on column webhook.created_at is 'When it happened.';
comment on column webhook.due_at is 'When to try (again); null when it is over.';
comment on column webhook.delivered_at is 'When the receiver accepted it.';
comment on column webhook.failed_at is 'When it was given up.';
comment on column webhook.url is 'Where to.';
comment on column webhook.secret_name is 'Name of the secret that signs; null: unsigned.';
comment on column webhook.body is 'What is sent, byte for byte the same at every delivery.';
comment on column webhook.last_error is 'Why the last delivery did not work.';

do $$
declare
    t text;
begin
    foreach t in array array['notify', 'webhook'] loop
        execute format('alter table %I enable row level security', t);
        execute format('create policy own on %I for select to nightshift_tenant using (tenant_id = any (array(select my_tenants())))', t);
        execute format('grant select on %I to nightshift_tenant', t);
    end loop;
end $$;

create view webhooks with (security_invoker = true) as
    select w.event_id, w.job_id, w.round, w.event, w.url, w.secret_name,
        case when w.delivered_at is not null then 'delivered' when w.failed_at is not null then 'failed' else 'waiting' end as state,
        w.attempts, w.last_status, w.last_error, w.body, w.created_at, w.due_at, w.delivered_at, w.failed_at
    from webhook w;
comment on view webhooks is 'Notifications of your jobs and what became of them.';
grant select on webhooks to nightshift_tenant;

create function webhook_refusal(for_tenant int, url text, secret_name text) returns text language plpgsql stable
set search_path = nightshift, pg_temp as $$
declare
    t tenant;
begin
    select * into t from tenant where id = for_tenant;
    if not is_allowed(url, t.webhook_prefixes) then
        return format('notify: tenant %s may not call %s; %s', t.name, url, case when t.webhook_prefixes = '{}'
            then 'no webhook is allowed yet' else 'allowed: ' || array_to_string(t.webhook_prefixes, ', ') end);
    elsif secret_name <> all (t.secret_names) then
        return format('notify: tenant %s has no secret %s; %s', t.name, secret_name, case when t.secret_names = '{}'
            then 'it has none yet' else 'it has ' || array_to_string(t.secret_names, ', ') end);
    end if;
    return null;
end $$;
comment on function webhook_refusal(int, text, text) is 'null, or why a tenant may not be told there or signed so.';

create function notify_refusal(term bigint, job bigint, entries jsonb) returns text language plpgsql security definer
set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
begin
    perform check_term(notify_refusal.term);
    return (select min(webhook_refusal(j.tenant_id, e ->> 'webhook', e ->> 'secret_env')) from job j, jsonb_array_elements(entries) e
        where j.id = notify_refusal.job);
end $$;
comment on function notify_refusal(bigint, bigint, jsonb) is 'null, or why notify of a spec is not allowed: [{"webhook", "events", "secret_env"}].';
grant execute on function notify_refusal(bigint, bigint, jsonb) to nightshift_scheduler;

create function queue_webhooks(j job, what text) returns void language plpgsql set search_path = nightshift, pg_temp as $$
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

create function notify_of_move() returns trigger language plpgsql set search_path = nightshift, pg_temp as $$
begin
    if old.state = 'submitted' and new.resolved ? 'notify' then
        insert into notify (job_id, n, tenant_id, url, events, secret_name)
            select new.id, e.n, new.tenant_id, e.value ->> 'webhook', array(select jsonb_array_elements_text(e.value -> 'events')), e.value ->> 'secret_env'
            from jsonb_array_elements(new.resolved -> 'notify') with ordinality as e (value, n);
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
create trigger job_notify after update of state, started_at on job for each row
    when (old.state is distinct from new.state or (old.started_at is null and new.started_at is not null)) execute function notify_of_move();

create function notify_of_budgets() returns void language plpgsql set search_path = nightshift, pg_temp as $$
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

create function end_webhook(wanted bigint, why text) returns void language plpgsql set search_path = nightshift, pg_temp as $$
declare
    w webhook;
begin
    update webhook set failed_at = clock(), due_at = null, last_error = why where id = wanted returning * into w;
    perform note(w.tenant_id, w.job_id, null, null, 'webhook_failed', format('%s was not told that the job is %s: %s', w.url, w.event, why));
end $$;
comment on function end_webhook(bigint, text) is 'Gives a notification up.';

-- A taken one is due again when its delivery must be over, so that one whose scheduler died is delivered by the next.
create function webhooks_due(term bigint, "limit" int)
returns table (id bigint, event_id uuid, url text, secret_name text, body text, attempt int)
language plpgsql security definer set search_path = nightshift, pg_temp as $$
#variable_conflict use_column
declare
    w webhook;
    v_refusal text;
begin
    perform check_term(webhooks_due.term);
    perform notify_of_budgets();
    for w in select * from webhook x where x.due_at <= clock() order by x.due_at limit least(webhooks_due."limit", 64) for update skip locked loop
        v_refusal := webhook_refusal(w.tenant_id, w.url, w.secret_name);
        if v_refusal is not null then
            perform end_webhook(w.id, v_refusal);
            continue;
        end if;
        update webhook x set attempts = x.attempts + 1, due_at = clock() + interval '20 seconds' where x.id = w.id;
        select w.id, w.event_id, w.url, w.secret_name, w.body, w.attempts + 1 into id, event_id, url, secret_name, body, attempt;
        return next;
    end loop;
end $$;
comment on function webhooks_due(bigint, int) is 'Takes notifications to deliver now (64 at most). Answer each with webhook_told within 20 seconds, or it is due again.';

-- Full jitter: the pause is drawn between nothing and its length, which doubles up to an hour. Twenty attempts are most of a day.
create function webhook_told(term bigint, webhook bigint, attempt int, status int, error text) returns boolean
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
grant execute on function webhooks_due(bigint, int), webhook_told(bigint, bigint, int, int, text) to nightshift_scheduler;

create or replace function versions(out protocol int, out protocol_oldest int, out schema int) language sql immutable parallel safe
    as $$ select 1, 1, 27 $$;

reset search_path;
reset role;
