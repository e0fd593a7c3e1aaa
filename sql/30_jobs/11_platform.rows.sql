-- The one row of the engine's state.
insert into jobs.platform default values on conflict do nothing;
