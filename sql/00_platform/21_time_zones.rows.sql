-- The time zones of this server.
select private.learn_time_zones();
