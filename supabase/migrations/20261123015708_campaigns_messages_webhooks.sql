-- campaigns messages webhooks: written by `npm run db:diff` from sql/.
set local lock_timeout = '5s';
set local statement_timeout = '5min';
-- Functions may come before what they use.
set local check_function_bodies = off;

alter type "public"."completion_status" add value 'needs_user_action' after 'manual_review';

alter type "public"."message_kind" add value 'reminder' after 'congratulation';

alter type "public"."message_kind" add value 'welcome' after 'reminder';

alter type "public"."message_kind" add value 'review_result' after 'welcome';

alter type "public"."message_kind" add value 'alert' after 'review_result';

alter type "public"."task_kind" add value 'instagram_photo_tag' after 'facebook_comment';

alter type "public"."task_kind" add value 'instagram_mention' after 'instagram_photo_tag';

alter type "public"."task_kind" add value 'instagram_story_mention' after 'instagram_mention';

alter type "public"."task_kind" add value 'instagram_dm_keyword' after 'instagram_story_mention';

alter type "public"."task_kind" add value 'instagram_follow' after 'instagram_dm_keyword';

alter type "public"."task_kind" add value 'facebook_reaction' after 'instagram_follow';

alter type "public"."task_kind" add value 'whatsapp_join' after 'facebook_reaction';

alter type "public"."task_kind" add value 'link_visit' after 'whatsapp_join';

alter type "public"."task_kind" add value 'link_sign_up' after 'link_visit';

alter type "public"."task_kind" add value 'instagram_like' after 'link_sign_up';

alter type "public"."task_kind" add value 'facebook_page_like' after 'instagram_like';

alter type "public"."task_kind" add value 'x_follow' after 'facebook_page_like';

alter type "public"."task_kind" add value 'x_repost' after 'x_follow';
