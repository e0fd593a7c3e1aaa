-- The three demo tenants and the platform's fall-back credentials. Every token here belongs to the local simulators.
-- Running it twice changes nothing.
begin;

insert into public.tenants (id, slug, name, plan_id, time_zone) values
  ('10000000-0000-4000-8000-000000000001', 'pizza-shop', 'Pizza Shop', 'pro', 'Europe/Rome'),
  ('10000000-0000-4000-8000-000000000002', 'gym', 'Gym', 'starter', 'America/New_York'),
  ('10000000-0000-4000-8000-000000000003', 'salon', 'Salon', 'free', 'Asia/Kolkata')
on conflict (id) do nothing;

-- Pizza Shop brings its own Facebook token and its own WaAPI account, Gym its own Instagram token, Salon nothing. With app secret
-- and verify token Meta's webhooks are taken, with the username a chat can be linked to.
select public.set_credential('10000000-0000-4000-8000-000000000001', 'meta', 'facebook_login',
  '{"access_token": "demo-meta-pizza-shop", "app_secret": "demo-app-secret-pizza-shop", "verify_token": "demo-verify-pizza-shop"}',
  '{"page_id": "100000000000001", "ig_user_id": "17841400000000001", "username": "pizza.shop"}');
select public.set_credential('10000000-0000-4000-8000-000000000001', 'whatsapp', 'waapi',
  '{"token": "demo-waapi-pizza-shop"}', '{"instance_id": "1001"}');
select public.set_credential('10000000-0000-4000-8000-000000000002', 'meta', 'instagram_login',
  '{"access_token": "demo-meta-gym", "app_secret": "demo-app-secret-gym", "verify_token": "demo-verify-gym"}',
  '{"ig_user_id": "17841400000000002", "username": "the.gym"}');
select jobs.set_platform_credential('meta', 'facebook_login', '{"access_token": "demo-meta-platform"}');
select jobs.set_platform_credential('whatsapp', 'whatsapp_cloud',
  '{"access_token": "demo-whatsapp-platform"}', '{"phone_number_id": "106540000000000"}');

insert into public.campaigns (tenant_id, id, name, status, time_zone, notifications_enabled, notify_from, notify_until, username_match) values
  ('10000000-0000-4000-8000-000000000001', '20000000-0000-4000-8000-000000000011', 'A slice of summer', 'active', 'Europe/Rome', true, '00:00', '24:00', true),
  ('10000000-0000-4000-8000-000000000001', '20000000-0000-4000-8000-000000000012', 'Two for Tuesday', 'active', 'Europe/Rome', true, '00:00', '24:00', true),
  ('10000000-0000-4000-8000-000000000002', '20000000-0000-4000-8000-000000000021', 'Thirty days stronger', 'active', 'America/New_York', true, '00:00', '24:00', true),
  ('10000000-0000-4000-8000-000000000003', '20000000-0000-4000-8000-000000000031', 'A fresh look', 'active', 'Asia/Kolkata', false, '00:00', '24:00', true),
  ('10000000-0000-4000-8000-000000000003', '20000000-0000-4000-8000-000000000032', 'After hours', 'active', 'Asia/Kolkata', true, '09:00', '18:00', true)
on conflict (tenant_id, id) do nothing;

insert into public.social_tasks (tenant_id, id, campaign_id, kind, title, post_id, keyword, url, reward_spins) values
  ('10000000-0000-4000-8000-000000000001', '30000000-0000-4000-8000-000000000111', '20000000-0000-4000-8000-000000000011',
    'facebook_comment', 'Comment on our summer post', '100000000000001_2001', null, null, 3),
  ('10000000-0000-4000-8000-000000000001', '30000000-0000-4000-8000-000000000112', '20000000-0000-4000-8000-000000000011',
    'instagram_comment', 'Comment on our oven video', '17900000000000101', null, null, 2),
  ('10000000-0000-4000-8000-000000000001', '30000000-0000-4000-8000-000000000113', '20000000-0000-4000-8000-000000000011',
    'instagram_photo_tag', 'Tag us in a photo of your slice', null, null, null, 4),
  ('10000000-0000-4000-8000-000000000001', '30000000-0000-4000-8000-000000000114', '20000000-0000-4000-8000-000000000011',
    'instagram_mention', 'Mention us in a post', null, null, null, 4),
  ('10000000-0000-4000-8000-000000000001', '30000000-0000-4000-8000-000000000115', '20000000-0000-4000-8000-000000000011',
    'link_visit', 'Have a look at the summer menu', null, null, 'https://pizza-shop.example/summer', 1),
  ('10000000-0000-4000-8000-000000000001', '30000000-0000-4000-8000-000000000121', '20000000-0000-4000-8000-000000000012',
    'facebook_comment', 'Tell us your Tuesday topping', '100000000000001_2002', null, null, 1),
  ('10000000-0000-4000-8000-000000000002', '30000000-0000-4000-8000-000000000211', '20000000-0000-4000-8000-000000000021',
    'instagram_comment', 'Comment with your goal', '17900000000000201', null, null, 5),
  ('10000000-0000-4000-8000-000000000002', '30000000-0000-4000-8000-000000000212', '20000000-0000-4000-8000-000000000021',
    'instagram_follow', 'Follow us', null, null, null, 2),
  ('10000000-0000-4000-8000-000000000002', '30000000-0000-4000-8000-000000000213', '20000000-0000-4000-8000-000000000021',
    'instagram_dm_keyword', 'Send us the word STRONG', null, 'strong', null, 2),
  ('10000000-0000-4000-8000-000000000003', '30000000-0000-4000-8000-000000000311', '20000000-0000-4000-8000-000000000031',
    'instagram_comment', 'Comment on our new look', '17900000000000301', null, null, 2),
  ('10000000-0000-4000-8000-000000000003', '30000000-0000-4000-8000-000000000321', '20000000-0000-4000-8000-000000000032',
    'facebook_comment', 'Which evening suits you?', '100000000000003_2001', null, null, 2)
on conflict (tenant_id, id) do nothing;

commit;
