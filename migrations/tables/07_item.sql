-- Finished items.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

-- Ordered so that no byte is lost to alignment: ten million of these must fit. The first object stands in columns of the
-- row: an array of one composite takes fifty bytes more.
create table item (
    job_id bigint not null,
    index bigint not null,
    finished_at timestamptz not null,
    seed bigint,
    bytes bigint,
    tenant_id int not null,
    shard_no int not null,
    status item_status not null,
    gpu_ms int,
    tokens int,
    steps int,
    attempt smallint not null,
    fingerprint_id smallint,
    item_id bytea,
    sha256 bytea,
    role text,
    key text,
    more artifact[],
    error_code text,
    error_message text,
    info jsonb,
    constraint item_error_fits_status check ((error_code is null) = (status = 'ok')),
    constraint item_no_object_unless_ok check (status = 'ok' or (key is null and more is null)),
    constraint item_object_whole check (num_nulls(role, key, bytes, sha256) in (0, 4)),
    constraint item_ok_whole check (status <> 'ok' or (item_id is not null and fingerprint_id is not null and key is not null)),
    primary key (job_id, index)
) with (autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_analyze_scale_factor = 0.1);
comment on table item is 'One row per finished item. A row ok implies that its objects exist with these sizes and sha256.';
comment on column item.job_id is 'The job.';
comment on column item.index is 'Index within the job.';
comment on column item.finished_at is 'When it was recorded.';
comment on column item.seed is 'Seed, 0 to 2^63-1; null when it never got one.';
comment on column item.bytes is 'Size of its first object in bytes.';
comment on column item.tenant_id is 'Tenant of the job.';
comment on column item.shard_no is 'The shard.';
comment on column item.status is 'ok, failed or skipped.';
comment on column item.gpu_ms is 'Engine time in milliseconds.';
comment on column item.tokens is 'Tokens generated.';
comment on column item.steps is 'Forward passes used.';
comment on column item.attempt is 'Attempt that reported it; 0 when the store failed it: its shard ran out of attempts, or it kills workers.';
comment on column item.fingerprint_id is 'Engine that made it.';
comment on column item.item_id is 'Id of the item.';
comment on column item.sha256 is 'sha256 of its first object, 32 bytes.';
comment on column item.role is 'What its first object is: image, map, joint, ...';
comment on column item.key is 'Key of its first, primary object, relative to the destination of the job; null unless ok.';
comment on column item.more is 'Its further objects; null when there is none.';
comment on column item.error_code is 'Stable code; null when ok.';
comment on column item.error_message is 'The error in words.';
comment on column item.info is 'What else is worth keeping: facts of the given picture, crop box.';
alter table item enable row level security;
create policy own on item for select to nightshift_tenant using (tenant_id = any (array(select my_tenants())));
grant select on item to nightshift_tenant;

reset search_path;
reset role;
