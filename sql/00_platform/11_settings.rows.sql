-- Settings that exist. A value that an admin changed stays.
insert into private.settings (name, value, meaning) values
  ('app_url', 'http://localhost:3000', 'Where participants spin: messages link to {app_url}/campaigns/{id}.'),
  ('default_time_zone', 'UTC', 'Time zone of schedules that name none.')
on conflict (name) do update set meaning = excluded.meaning;
