-- The four plans. Numbers that an admin changed stay; new plans and names arrive.
insert into public.plans (plan_id, name, position, weight, cap, batch_share, cadence_seconds, rate_per_minute, target_seconds) values
  ('free', 'Free', 1, 1, 50, 50, 300, 600, 600),
  ('starter', 'Starter', 2, 2, 100, 50, 300, 1200, 600),
  ('pro', 'Pro', 3, 4, 200, 100, 60, 3000, 120),
  ('enterprise', 'Enterprise', 4, 8, 400, 200, 60, null, 120)
on conflict (plan_id) do update set name = excluded.name, position = excluded.position;
