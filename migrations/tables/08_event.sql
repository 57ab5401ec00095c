-- What happened to jobs.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

create table event (
    id bigint generated always as identity,
    at timestamptz not null default clock(),
    tenant_id int not null,
    job_id bigint not null,
    shard_no int,
    worker_id bigint,
    what text not null,
    message text not null,
    primary key (id, at)
) partition by range (at);
create index event_job on event (job_id, id);
comment on table event is 'What happened to jobs. Partitioned by time: partitions are dropped, rows are never deleted.';
comment on column event.id is 'Grows with time.';
comment on column event.at is 'When.';
comment on column event.tenant_id is 'Tenant of the job.';
comment on column event.job_id is 'The job.';
comment on column event.shard_no is 'The shard, if it concerns one.';
comment on column event.worker_id is 'The worker, if it concerns one.';
comment on column event.what is 'Stable word: submitted, ready, lease_lost, ...';
comment on column event.message is 'One sentence.';
alter table event enable row level security;
create policy own on event for select to nightshift_tenant using (tenant_id = any (array(select my_tenants())));
grant select on event to nightshift_tenant;

-- Until the first whole week, and what falls into no other partition; weeks are made ahead of time (keep_events).
create table event_rest partition of event default;
comment on table event_rest is 'Events outside of the other partitions: nobody had made the week''s.';
do $$
declare
    t text;
    c record;
begin
    execute format('create table event_before partition of event for values from (minvalue) to (%L)', date_trunc('week', clock(), 'UTC') + interval '168 hours');
    comment on table event_before is 'Events until the first whole week.';
    foreach t in array array['event_before', 'event_rest'] loop
        execute format('alter table %I enable row level security', t);
        for c in select attname, col_description('event'::regclass, attnum) as words from pg_attribute
            where attrelid = 'event'::regclass and attnum > 0 loop
            execute format('comment on column %I.%I is %L', t, c.attname, c.words);
        end loop;
    end loop;
end $$;

reset search_path;
reset role;
