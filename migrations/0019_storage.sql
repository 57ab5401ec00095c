-- How full pages are, what is indexed, and when the server cleans up.

set local role nightshift_owner;
set local search_path = nightshift, pg_temp;

-- Claims have read job_cursor instead since 0011.
drop index job_claimable;

-- A job's row changes a few times in its life, always in columns that an index's condition names: room beside it is never used.
-- Most cursors belong to jobs that wait; those of running jobs find room, because an access to a full page takes dead versions away.
alter table job set (fillfactor = 95);
alter table job_cursor set (fillfactor = 80);

-- Each shard leaves an entry in shard_leased when it ends, and is not looked at again: clean up by the thousand, not by a fifth of all.
alter table shard set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
alter table attempt set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
-- Small and rewritten without end.
alter table job_cursor set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500);
alter table share set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
alter table worker set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
alter table leader set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

create or replace function versions(out protocol int, out protocol_oldest int, out schema int) language sql immutable parallel safe
    as $$ select 1, 1, 19 $$;

reset search_path;
reset role;
