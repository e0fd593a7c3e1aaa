// Written by `npm run types` from the database. Not edited by hand.

export type Json = string | number | boolean | null | { [key: string]: Json | undefined } | Json[];

export type Database = {
  jobs: {
    Tables: {
      alerts: {
        Row: {
          alert_id: number;
          closed_at: string | null;
          details: NonNullable<Json>;
          incident: string;
          message: string;
          opened_at: string;
          tenant_id: string | null;
        };
        ComputedFields: never;
        Insert: {
          alert_id?: never;
          closed_at?: string | null;
          details?: NonNullable<Json>;
          incident: string;
          message: string;
          opened_at?: string;
          tenant_id?: string | null;
        };
        Update: {
          alert_id?: never;
          closed_at?: string | null;
          details?: NonNullable<Json>;
          incident?: string;
          message?: string;
          opened_at?: string;
          tenant_id?: string | null;
        };
        Relationships: [];
      };
      attempts: {
        Row: {
          batch_id: number | null;
          credential_source: string | null;
          due_at: string;
          error: string | null;
          finished_at: string;
          item_id: number;
          job: string;
          outcome: string;
          run_id: number | null;
          started_at: string;
          subject_id: string | null;
          tenant_id: string;
          trace_id: string;
          try: number;
        };
        ComputedFields: never;
        Insert: {
          batch_id?: number | null;
          credential_source?: string | null;
          due_at: string;
          error?: string | null;
          finished_at?: string;
          item_id: number;
          job: string;
          outcome: string;
          run_id?: number | null;
          started_at: string;
          subject_id?: string | null;
          tenant_id: string;
          trace_id: string;
          try: number;
        };
        Update: {
          batch_id?: number | null;
          credential_source?: string | null;
          due_at?: string;
          error?: string | null;
          finished_at?: string;
          item_id?: number;
          job?: string;
          outcome?: string;
          run_id?: number | null;
          started_at?: string;
          subject_id?: string | null;
          tenant_id?: string;
          trace_id?: string;
          try?: number;
        };
        Relationships: [];
      };
      attempts_default: {
        Row: {
          batch_id: number | null;
          credential_source: string | null;
          due_at: string;
          error: string | null;
          finished_at: string;
          item_id: number;
          job: string;
          outcome: string;
          run_id: number | null;
          started_at: string;
          subject_id: string | null;
          tenant_id: string;
          trace_id: string;
          try: number;
        };
        ComputedFields: never;
        Insert: {
          batch_id?: number | null;
          credential_source?: string | null;
          due_at: string;
          error?: string | null;
          finished_at?: string;
          item_id: number;
          job: string;
          outcome: string;
          run_id?: number | null;
          started_at: string;
          subject_id?: string | null;
          tenant_id: string;
          trace_id: string;
          try: number;
        };
        Update: {
          batch_id?: number | null;
          credential_source?: string | null;
          due_at?: string;
          error?: string | null;
          finished_at?: string;
          item_id?: number;
          job?: string;
          outcome?: string;
          run_id?: number | null;
          started_at?: string;
          subject_id?: string | null;
          tenant_id?: string;
          trace_id?: string;
          try?: number;
        };
        Relationships: [];
      };
      backlogs: {
        Row: {
          grown_for: number;
          growth_per_minute: number;
          job: string;
          ready: number;
          seen_at: string;
        };
        ComputedFields: never;
        Insert: {
          grown_for?: number;
          growth_per_minute?: number;
          job: string;
          ready: number;
          seen_at: string;
        };
        Update: {
          grown_for?: number;
          growth_per_minute?: number;
          job?: string;
          ready?: number;
          seen_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'backlogs_job_fkey';
            columns: ['job'];
            isOneToOne: true;
            referencedRelation: 'definitions';
            referencedColumns: ['job'];
          },
        ];
      };
      batches: {
        Row: {
          batch_id: number;
          drain_id: string;
          job: string;
          lease_until: string;
          leased_at: string;
          loaded: boolean;
          request: string | null;
          run_id: number | null;
        };
        ComputedFields: never;
        Insert: {
          batch_id?: never;
          drain_id: string;
          job: string;
          lease_until: string;
          leased_at?: string;
          loaded?: boolean;
          request?: string | null;
          run_id?: number | null;
        };
        Update: {
          batch_id?: never;
          drain_id?: string;
          job?: string;
          lease_until?: string;
          leased_at?: string;
          loaded?: boolean;
          request?: string | null;
          run_id?: number | null;
        };
        Relationships: [];
      };
      breakers: {
        Row: {
          failures: number;
          open_until: string | null;
          provider: Database['public']['Enums']['provider'];
          reason: string | null;
          since: string;
          state: string;
          tenant_id: string;
        };
        ComputedFields: never;
        Insert: {
          failures?: number;
          open_until?: string | null;
          provider: Database['public']['Enums']['provider'];
          reason?: string | null;
          since?: string;
          state: string;
          tenant_id: string;
        };
        Update: {
          failures?: number;
          open_until?: string | null;
          provider?: Database['public']['Enums']['provider'];
          reason?: string | null;
          since?: string;
          state?: string;
          tenant_id?: string;
        };
        Relationships: [];
      };
      clocks: {
        Row: {
          due_from: string;
          job: string;
          looked_at: string;
          oldest_batch: number;
          revision: number;
          served_from: number;
          vtime: number;
          width: number;
          woken_to: string;
          set_clock: undefined | null;
        };
        ComputedFields: 'set_clock';
        Insert: {
          due_from?: string;
          job: string;
          looked_at?: string;
          oldest_batch?: number;
          revision?: number;
          served_from?: number;
          vtime?: number;
          width?: number;
          woken_to?: string;
        };
        Update: {
          due_from?: string;
          job?: string;
          looked_at?: string;
          oldest_batch?: number;
          revision?: number;
          served_from?: number;
          vtime?: number;
          width?: number;
          woken_to?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'clocks_job_fkey';
            columns: ['job'];
            isOneToOne: false;
            referencedRelation: 'definitions';
            referencedColumns: ['job'];
          },
        ];
      };
      dead_items: {
        Row: {
          attempts: number;
          dedupe_key: string | null;
          died_at: string;
          enqueued_at: string;
          item_id: number;
          job: string;
          last_error: string | null;
          payload: Json | null;
          reason: string;
          subject_id: string | null;
          tenant_id: string;
          trace_id: string;
          tries: number;
        };
        ComputedFields: never;
        Insert: {
          attempts: number;
          dedupe_key?: string | null;
          died_at?: string;
          enqueued_at: string;
          item_id: number;
          job: string;
          last_error?: string | null;
          payload?: Json | null;
          reason: string;
          subject_id?: string | null;
          tenant_id: string;
          trace_id: string;
          tries: number;
        };
        Update: {
          attempts?: number;
          dedupe_key?: string | null;
          died_at?: string;
          enqueued_at?: string;
          item_id?: number;
          job?: string;
          last_error?: string | null;
          payload?: Json | null;
          reason?: string;
          subject_id?: string | null;
          tenant_id?: string;
          trace_id?: string;
          tries?: number;
        };
        Relationships: [];
      };
      dedupe_keys: {
        Row: {
          dedupe_key: string;
          item_id: number;
          job: string;
          tenant_id: string;
        };
        ComputedFields: never;
        Insert: {
          dedupe_key: string;
          item_id: number;
          job: string;
          tenant_id: string;
        };
        Update: {
          dedupe_key?: string;
          item_id?: number;
          job?: string;
          tenant_id?: string;
        };
        Relationships: [];
      };
      definitions: {
        Row: {
          apply_function: string | null;
          backoff_limit_seconds: number;
          backoff_seconds: number;
          batch_size: number;
          breaker_after: number;
          cap: number | null;
          command: string | null;
          condition_function: string | null;
          cost_unit: string;
          effects: boolean;
          eligible_function: string | null;
          has_cadence: boolean;
          job: string;
          kind: Database['jobs']['Enums']['kind'];
          lease_seconds: number;
          load_function: string | null;
          max_attempts: number;
          max_drains: number;
          meaning: string;
          misfire: Database['jobs']['Enums']['misfire'];
          misfire_limit: number;
          next_slot_at: string | null;
          paused: boolean;
          platform_allowed: boolean;
          provider: Database['public']['Enums']['provider'] | null;
          quantum: number;
          schedule: string | null;
          scope: Database['jobs']['Enums']['scope'];
          start_delay_seconds: number;
          time_zone: string | null;
          work_function: string | null;
        };
        ComputedFields: never;
        Insert: {
          apply_function?: string | null;
          backoff_limit_seconds?: number;
          backoff_seconds?: number;
          batch_size?: number;
          breaker_after?: number;
          cap?: number | null;
          command?: string | null;
          condition_function?: string | null;
          cost_unit?: string;
          effects?: boolean;
          eligible_function?: string | null;
          has_cadence?: boolean;
          job: string;
          kind: Database['jobs']['Enums']['kind'];
          lease_seconds?: number;
          load_function?: string | null;
          max_attempts?: number;
          max_drains?: number;
          meaning: string;
          misfire?: Database['jobs']['Enums']['misfire'];
          misfire_limit?: number;
          next_slot_at?: string | null;
          paused?: boolean;
          platform_allowed?: boolean;
          provider?: Database['public']['Enums']['provider'] | null;
          quantum?: number;
          schedule?: string | null;
          scope?: Database['jobs']['Enums']['scope'];
          start_delay_seconds?: number;
          time_zone?: string | null;
          work_function?: string | null;
        };
        Update: {
          apply_function?: string | null;
          backoff_limit_seconds?: number;
          backoff_seconds?: number;
          batch_size?: number;
          breaker_after?: number;
          cap?: number | null;
          command?: string | null;
          condition_function?: string | null;
          cost_unit?: string;
          effects?: boolean;
          eligible_function?: string | null;
          has_cadence?: boolean;
          job?: string;
          kind?: Database['jobs']['Enums']['kind'];
          lease_seconds?: number;
          load_function?: string | null;
          max_attempts?: number;
          max_drains?: number;
          meaning?: string;
          misfire?: Database['jobs']['Enums']['misfire'];
          misfire_limit?: number;
          next_slot_at?: string | null;
          paused?: boolean;
          platform_allowed?: boolean;
          provider?: Database['public']['Enums']['provider'] | null;
          quantum?: number;
          schedule?: string | null;
          scope?: Database['jobs']['Enums']['scope'];
          start_delay_seconds?: number;
          time_zone?: string | null;
          work_function?: string | null;
        };
        Relationships: [];
      };
      drains: {
        Row: {
          answered_at: string | null;
          drain_id: string;
          ended_at: string | null;
          error: string | null;
          errors: NonNullable<Json>;
          job: string;
          request_id: number | null;
          run_id: number | null;
          rung_at: string;
          seen_at: string | null;
        };
        ComputedFields: never;
        Insert: {
          answered_at?: string | null;
          drain_id?: string;
          ended_at?: string | null;
          error?: string | null;
          errors?: NonNullable<Json>;
          job: string;
          request_id?: number | null;
          run_id?: number | null;
          rung_at?: string;
          seen_at?: string | null;
        };
        Update: {
          answered_at?: string | null;
          drain_id?: string;
          ended_at?: string | null;
          error?: string | null;
          errors?: NonNullable<Json>;
          job?: string;
          request_id?: number | null;
          run_id?: number | null;
          rung_at?: string;
          seen_at?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: 'drains_job_fkey';
            columns: ['job'];
            isOneToOne: false;
            referencedRelation: 'definitions';
            referencedColumns: ['job'];
          },
        ];
      };
      effects: {
        Row: {
          batch_id: number;
          item_id: number;
          request: string | null;
        };
        ComputedFields: never;
        Insert: {
          batch_id: number;
          item_id: number;
          request?: string | null;
        };
        Update: {
          batch_id?: number;
          item_id?: number;
          request?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: 'effects_batch_fkey';
            columns: ['batch_id'];
            isOneToOne: false;
            referencedRelation: 'batches';
            referencedColumns: ['batch_id'];
          },
        ];
      };
      items: {
        Row: {
          attempts: number;
          dedupe_key: string | null;
          enqueued_at: string;
          item_id: number;
          job: string;
          last_error: string | null;
          payload: Json | null;
          run_at: string;
          run_id: number | null;
          subject_id: string | null;
          tenant_id: string;
          trace_id: string;
          tries: number;
          waiting_for: string | null;
        };
        ComputedFields: never;
        Insert: {
          attempts?: number;
          dedupe_key?: string | null;
          enqueued_at?: string;
          item_id?: never;
          job: string;
          last_error?: string | null;
          payload?: Json | null;
          run_at: string;
          run_id?: number | null;
          subject_id?: string | null;
          tenant_id: string;
          trace_id?: string;
          tries?: number;
          waiting_for?: string | null;
        };
        Update: {
          attempts?: number;
          dedupe_key?: string | null;
          enqueued_at?: string;
          item_id?: never;
          job?: string;
          last_error?: string | null;
          payload?: Json | null;
          run_at?: string;
          run_id?: number | null;
          subject_id?: string | null;
          tenant_id?: string;
          trace_id?: string;
          tries?: number;
          waiting_for?: string | null;
        };
        Relationships: [];
      };
      lane_keys: {
        Row: {
          job: string;
          tenant_id: string;
        };
        ComputedFields: never;
        Insert: {
          job: string;
          tenant_id: string;
        };
        Update: {
          job?: string;
          tenant_id?: string;
        };
        Relationships: [];
      };
      lanes: {
        Row: {
          awake: boolean;
          detail: string | null;
          floor_at: string;
          head_at: string | null;
          head_id: number | null;
          head_since: string | null;
          job: string;
          not_before: string;
          paused: boolean;
          reason: string | null;
          tenant_id: string;
          vtime: number;
          wake_at: string | null;
          written_at: string;
        };
        ComputedFields: never;
        Insert: {
          awake?: boolean;
          detail?: string | null;
          floor_at?: string;
          head_at?: string | null;
          head_id?: number | null;
          head_since?: string | null;
          job: string;
          not_before?: string;
          paused?: boolean;
          reason?: string | null;
          tenant_id: string;
          vtime?: number;
          wake_at?: string | null;
          written_at?: string;
        };
        Update: {
          awake?: boolean;
          detail?: string | null;
          floor_at?: string;
          head_at?: string | null;
          head_id?: number | null;
          head_since?: string | null;
          job?: string;
          not_before?: string;
          paused?: boolean;
          reason?: string | null;
          tenant_id?: string;
          vtime?: number;
          wake_at?: string | null;
          written_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'lanes_key_fkey';
            columns: ['tenant_id', 'job'];
            isOneToOne: false;
            referencedRelation: 'lane_keys';
            referencedColumns: ['tenant_id', 'job'];
          },
        ];
      };
      leases: {
        Row: {
          batch_id: number;
          credential_fingerprint: string | null;
          credential_source: string | null;
          items: Database['jobs']['Tables']['items']['Row'][];
          job: string;
          open: number;
          tenant_id: string;
        };
        ComputedFields: never;
        Insert: {
          batch_id: number;
          credential_fingerprint?: string | null;
          credential_source?: string | null;
          items: Database['jobs']['Tables']['items']['Row'][];
          job: string;
          open: number;
          tenant_id: string;
        };
        Update: {
          batch_id?: number;
          credential_fingerprint?: string | null;
          credential_source?: string | null;
          items?: Database['jobs']['Tables']['items']['Row'][];
          job?: string;
          open?: number;
          tenant_id?: string;
        };
        Relationships: [];
      };
      lookbacks: {
        Row: {
          job: string;
          lookback_id: number;
          run_at: string;
          tenant_id: string;
        };
        ComputedFields: never;
        Insert: {
          job: string;
          lookback_id?: never;
          run_at: string;
          tenant_id: string;
        };
        Update: {
          job?: string;
          lookback_id?: never;
          run_at?: string;
          tenant_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'lookbacks_lane_fkey';
            columns: ['tenant_id', 'job'];
            isOneToOne: false;
            referencedRelation: 'lane_keys';
            referencedColumns: ['tenant_id', 'job'];
          },
        ];
      };
      open_runs: {
        Row: {
          job: string;
          run_id: number;
        };
        ComputedFields: never;
        Insert: {
          job: string;
          run_id: number;
        };
        Update: {
          job?: string;
          run_id?: number;
        };
        Relationships: [
          {
            foreignKeyName: 'open_runs_job_fkey';
            columns: ['job'];
            isOneToOne: true;
            referencedRelation: 'definitions';
            referencedColumns: ['job'];
          },
        ];
      };
      platform: {
        Row: {
          cleaned_at: string;
          last_tick_at: string | null;
          last_tick_ms: number | null;
          one: boolean;
          stopped: boolean;
          tick_seconds: number;
          watched_at: string;
        };
        ComputedFields: never;
        Insert: {
          cleaned_at?: string;
          last_tick_at?: string | null;
          last_tick_ms?: number | null;
          one?: boolean;
          stopped?: boolean;
          tick_seconds?: number;
          watched_at?: string;
        };
        Update: {
          cleaned_at?: string;
          last_tick_at?: string | null;
          last_tick_ms?: number | null;
          one?: boolean;
          stopped?: boolean;
          tick_seconds?: number;
          watched_at?: string;
        };
        Relationships: [];
      };
      provider_limits: {
        Row: {
          provider: Database['public']['Enums']['provider'];
          rate_per_minute: number | null;
        };
        ComputedFields: never;
        Insert: {
          provider: Database['public']['Enums']['provider'];
          rate_per_minute?: number | null;
        };
        Update: {
          provider?: Database['public']['Enums']['provider'];
          rate_per_minute?: number | null;
        };
        Relationships: [];
      };
      rates: {
        Row: {
          free_at: string;
          provider: Database['public']['Enums']['provider'];
          tenant_id: string;
        };
        ComputedFields: never;
        Insert: {
          free_at: string;
          provider: Database['public']['Enums']['provider'];
          tenant_id: string;
        };
        Update: {
          free_at?: string;
          provider?: Database['public']['Enums']['provider'];
          tenant_id?: string;
        };
        Relationships: [];
      };
      run_tenants: {
        Row: {
          batch_id: number;
          drain_id: string;
          failed: number;
          processed: number;
          run_id: number;
          started_at: string;
          tenant_id: string;
        };
        ComputedFields: never;
        Insert: {
          batch_id?: number;
          drain_id: string;
          failed?: number;
          processed?: number;
          run_id: number;
          started_at?: string;
          tenant_id: string;
        };
        Update: {
          batch_id?: number;
          drain_id?: string;
          failed?: number;
          processed?: number;
          run_id?: number;
          started_at?: string;
          tenant_id?: string;
        };
        Relationships: [];
      };
      run_tenants_default: {
        Row: {
          batch_id: number;
          drain_id: string;
          failed: number;
          processed: number;
          run_id: number;
          started_at: string;
          tenant_id: string;
        };
        ComputedFields: never;
        Insert: {
          batch_id?: number;
          drain_id: string;
          failed?: number;
          processed?: number;
          run_id: number;
          started_at?: string;
          tenant_id: string;
        };
        Update: {
          batch_id?: number;
          drain_id?: string;
          failed?: number;
          processed?: number;
          run_id?: number;
          started_at?: string;
          tenant_id?: string;
        };
        Relationships: [];
      };
      runs: {
        Row: {
          errors: NonNullable<Json>;
          expected: number | null;
          failed: number;
          finished_at: string | null;
          job: string;
          message: string | null;
          processed: number;
          run_id: number;
          slot: string | null;
          started_at: string;
          status: Database['jobs']['Enums']['run_status'];
          trigger: string;
        };
        ComputedFields: never;
        Insert: {
          errors?: NonNullable<Json>;
          expected?: number | null;
          failed?: number;
          finished_at?: string | null;
          job: string;
          message?: string | null;
          processed?: number;
          run_id?: never;
          slot?: string | null;
          started_at?: string;
          status?: Database['jobs']['Enums']['run_status'];
          trigger: string;
        };
        Update: {
          errors?: NonNullable<Json>;
          expected?: number | null;
          failed?: number;
          finished_at?: string | null;
          job?: string;
          message?: string | null;
          processed?: number;
          run_id?: never;
          slot?: string | null;
          started_at?: string;
          status?: Database['jobs']['Enums']['run_status'];
          trigger?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'runs_job_fkey';
            columns: ['job'];
            isOneToOne: false;
            referencedRelation: 'definitions';
            referencedColumns: ['job'];
          },
        ];
      };
      runs_default: {
        Row: {
          errors: NonNullable<Json>;
          expected: number | null;
          failed: number;
          finished_at: string | null;
          job: string;
          message: string | null;
          processed: number;
          run_id: number;
          slot: string | null;
          started_at: string;
          status: Database['jobs']['Enums']['run_status'];
          trigger: string;
        };
        ComputedFields: never;
        Insert: {
          errors?: NonNullable<Json>;
          expected?: number | null;
          failed?: number;
          finished_at?: string | null;
          job: string;
          message?: string | null;
          processed?: number;
          run_id?: never;
          slot?: string | null;
          started_at?: string;
          status?: Database['jobs']['Enums']['run_status'];
          trigger: string;
        };
        Update: {
          errors?: NonNullable<Json>;
          expected?: number | null;
          failed?: number;
          finished_at?: string | null;
          job?: string;
          message?: string | null;
          processed?: number;
          run_id?: never;
          slot?: string | null;
          started_at?: string;
          status?: Database['jobs']['Enums']['run_status'];
          trigger?: string;
        };
        Relationships: [];
      };
      slots: {
        Row: {
          job: string;
          slot: string;
        };
        ComputedFields: never;
        Insert: {
          job: string;
          slot: string;
        };
        Update: {
          job?: string;
          slot?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'slots_job_fkey';
            columns: ['job'];
            isOneToOne: false;
            referencedRelation: 'definitions';
            referencedColumns: ['job'];
          },
        ];
      };
      steps: {
        Row: {
          began_at: string;
          job: string;
          retry_at: string;
          step: string;
          tries: number;
        };
        ComputedFields: never;
        Insert: {
          began_at: string;
          job: string;
          retry_at: string;
          step: string;
          tries?: number;
        };
        Update: {
          began_at?: string;
          job?: string;
          retry_at?: string;
          step?: string;
          tries?: number;
        };
        Relationships: [];
      };
      throttles: {
        Row: {
          provider: Database['public']['Enums']['provider'];
          reason: string | null;
          tenant_id: string;
          until: string;
        };
        ComputedFields: never;
        Insert: {
          provider: Database['public']['Enums']['provider'];
          reason?: string | null;
          tenant_id: string;
          until: string;
        };
        Update: {
          provider?: Database['public']['Enums']['provider'];
          reason?: string | null;
          tenant_id?: string;
          until?: string;
        };
        Relationships: [];
      };
      witnesses: {
        Row: {
          item_id: number;
          job: string;
          run_id: number;
          tenant_id: string;
        };
        ComputedFields: never;
        Insert: {
          item_id: number;
          job: string;
          run_id: number;
          tenant_id: string;
        };
        Update: {
          item_id?: number;
          job?: string;
          run_id?: number;
          tenant_id?: string;
        };
        Relationships: [];
      };
    };
    Views: {
      leased_items: {
        Row: {
          attempts: number | null;
          batch_id: number;
          credential_fingerprint: string | null;
          credential_source: string | null;
          dedupe_key: string | null;
          enqueued_at: string | null;
          item_id: number | null;
          job: string | null;
          last_error: string | null;
          payload: Json | null;
          run_at: string | null;
          run_id: number | null;
          subject_id: string | null;
          tenant_id: string | null;
          trace_id: string | null;
          tries: number | null;
          waiting_for: string | null;
        };
        ComputedFields: never;
        Relationships: [];
      };
      plan_levels: {
        Row: {
          job: string | null;
          per_minute: number | null;
          plan_id: string | null;
          success_rate: number | null;
          target_seconds: number | null;
          tries: number | null;
          wait_p50_seconds: number | null;
          wait_p95_seconds: number | null;
          wait_p99_seconds: number | null;
          within_target: number | null;
        };
        ComputedFields: never;
        Relationships: [];
      };
      queues: {
        Row: {
          awake: boolean | null;
          dead: number | null;
          detail: string | null;
          expected_start: string | null;
          in_flight: number | null;
          job: string | null;
          oldest_ready_seconds: number | null;
          plan_id: string | null;
          ready: number | null;
          reason: string | null;
          tenant_id: string | null;
          waiting: number | null;
          wake_at: string | null;
        };
        ComputedFields: never;
        Relationships: [];
      };
      service_levels: {
        Row: {
          job: string | null;
          per_minute: number | null;
          plan_id: string | null;
          succeeded: number | null;
          success_rate: number | null;
          target_seconds: number | null;
          tenant_id: string | null;
          tries: number | null;
          wait_p50_seconds: number | null;
          wait_p95_seconds: number | null;
          wait_p99_seconds: number | null;
          within_target: number | null;
        };
        ComputedFields: never;
        Relationships: [];
      };
    };
    Functions: {
      add_member: {
        Args: { role: Database['public']['Enums']['member_role']; tenant_id: string; user_id: string };
        Returns: undefined;
      };
      add_platform_admin: { Args: { user_id: string }; Returns: undefined };
      answer_doorbell: { Args: { ticket: string }; Returns: Json };
      apply_ended: {
        Args: {
          p_definition: Omit<
            Database['jobs']['Tables']['definitions']['Row'],
            Database['jobs']['Tables']['definitions']['ComputedFields']
          >;
          p_settled: Database['jobs']['CompositeTypes']['settled'][];
        };
        Returns: Database['jobs']['CompositeTypes']['settled'][];
      };
      backoff: {
        Args: {
          p_attempts: number;
          p_definition: Omit<
            Database['jobs']['Tables']['definitions']['Row'],
            Database['jobs']['Tables']['definitions']['ComputedFields']
          >;
        };
        Returns: string;
      };
      batch_again: { Args: { p_request: string }; Returns: Json };
      batch_answer: {
        Args: {
          p_batch: Omit<
            Database['jobs']['Tables']['batches']['Row'],
            Database['jobs']['Tables']['batches']['ComputedFields']
          >;
          p_definition: Omit<
            Database['jobs']['Tables']['definitions']['Row'],
            Database['jobs']['Tables']['definitions']['ComputedFields']
          >;
          p_tenants: Json;
        };
        Returns: Json;
      };
      begin_by_hand: {
        Args: { p_job: string };
        Returns: {
          apply_function: string | null;
          backoff_limit_seconds: number;
          backoff_seconds: number;
          batch_size: number;
          breaker_after: number;
          cap: number | null;
          command: string | null;
          condition_function: string | null;
          cost_unit: string;
          effects: boolean;
          eligible_function: string | null;
          has_cadence: boolean;
          job: string;
          kind: Database['jobs']['Enums']['kind'];
          lease_seconds: number;
          load_function: string | null;
          max_attempts: number;
          max_drains: number;
          meaning: string;
          misfire: Database['jobs']['Enums']['misfire'];
          misfire_limit: number;
          next_slot_at: string | null;
          paused: boolean;
          platform_allowed: boolean;
          provider: Database['public']['Enums']['provider'] | null;
          quantum: number;
          schedule: string | null;
          scope: Database['jobs']['Enums']['scope'];
          start_delay_seconds: number;
          time_zone: string | null;
          work_function: string | null;
        };
        SetofOptions: {
          from: '*';
          to: 'definitions';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      begin_drain: { Args: { p_job: string }; Returns: string };
      begin_effects: { Args: { batch_id: number; items: number[]; request?: string }; Returns: number[] };
      behind: {
        Args: {
          p_definition: Omit<
            Database['jobs']['Tables']['definitions']['Row'],
            Database['jobs']['Tables']['definitions']['ComputedFields']
          >;
          p_tenant_ids: string[];
        };
        Returns: string[];
      };
      bundle_emails: {
        Args: { batch_id: number; items: number[]; request?: string; sender: string };
        Returns: Json;
      };
      call_load: {
        Args: {
          p_definition: Omit<
            Database['jobs']['Tables']['definitions']['Row'],
            Database['jobs']['Tables']['definitions']['ComputedFields']
          >;
          p_items: Database['jobs']['Tables']['items']['Row'][];
        };
        Returns: Database['jobs']['CompositeTypes']['loaded'][];
      };
      cancel: {
        Args: { dry_run?: boolean; job: string; older_than?: string; tenant_id?: string };
        Returns: number;
      };
      cancel_items: {
        Args: {
          p_definition: Omit<
            Database['jobs']['Tables']['definitions']['Row'],
            Database['jobs']['Tables']['definitions']['ComputedFields']
          >;
          p_item_ids: number[];
          p_tenant_ids: string[];
        };
        Returns: Record<string, unknown>;
      };
      claim_lock: { Args: { p_job: string }; Returns: undefined };
      clean: { Args: { p_now: string }; Returns: undefined };
      close_alert: { Args: { p_incident: string; p_tenant_id: string }; Returns: undefined };
      close_batch: {
        Args: { batch_id: number; next?: boolean; outcomes: Json; request?: string };
        Returns: Json;
      };
      close_breakers: {
        Args: { p_now: string; p_provider: Database['public']['Enums']['provider']; p_tenant_ids: string[] };
        Returns: undefined;
      };
      count_failures: {
        Args: {
          p_definition: Omit<
            Database['jobs']['Tables']['definitions']['Row'],
            Database['jobs']['Tables']['definitions']['ComputedFields']
          >;
          p_now: string;
          p_settled: Database['jobs']['CompositeTypes']['settled'][];
        };
        Returns: undefined;
      };
      count_run: {
        Args: {
          p_batch: Omit<
            Database['jobs']['Tables']['batches']['Row'],
            Database['jobs']['Tables']['batches']['ComputedFields']
          >;
          p_settled: Database['jobs']['CompositeTypes']['settled'][];
        };
        Returns: undefined;
      };
      define: {
        Args: { job: string; settings: Json };
        Returns: {
          apply_function: string | null;
          backoff_limit_seconds: number;
          backoff_seconds: number;
          batch_size: number;
          breaker_after: number;
          cap: number | null;
          command: string | null;
          condition_function: string | null;
          cost_unit: string;
          effects: boolean;
          eligible_function: string | null;
          has_cadence: boolean;
          job: string;
          kind: Database['jobs']['Enums']['kind'];
          lease_seconds: number;
          load_function: string | null;
          max_attempts: number;
          max_drains: number;
          meaning: string;
          misfire: Database['jobs']['Enums']['misfire'];
          misfire_limit: number;
          next_slot_at: string | null;
          paused: boolean;
          platform_allowed: boolean;
          provider: Database['public']['Enums']['provider'] | null;
          quantum: number;
          schedule: string | null;
          scope: Database['jobs']['Enums']['scope'];
          start_delay_seconds: number;
          time_zone: string | null;
          work_function: string | null;
        };
        SetofOptions: {
          from: '*';
          to: 'definitions';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      deletion_status: { Args: { code: string }; Returns: Json };
      drain_is_live: {
        Args: {
          p_drain: Omit<
            Database['jobs']['Tables']['drains']['Row'],
            Database['jobs']['Tables']['drains']['ComputedFields']
          >;
          p_lease_seconds: number;
          p_now: string;
        };
        Returns: boolean;
      };
      drop_lookbacks: {
        Args: { p_floor_ats: string[]; p_job: string; p_lookback_ids: number[]; p_tenant_ids: string[] };
        Returns: undefined;
      };
      due_steps: { Args: { p_now: string }; Returns: string[] };
      end_drain: { Args: { drain_id: string; error?: string }; Returns: undefined };
      end_items: {
        Args: {
          p_definition: Omit<
            Database['jobs']['Tables']['definitions']['Row'],
            Database['jobs']['Tables']['definitions']['ComputedFields']
          >;
          p_settled: Database['jobs']['CompositeTypes']['settled'][];
        };
        Returns: Database['jobs']['CompositeTypes']['settled'][];
      };
      enqueue: {
        Args: {
          dedupe_key?: string;
          job: string;
          payload?: Json;
          run_at?: string;
          subject_id?: string;
          tenant_id: string;
        };
        Returns: number;
      };
      enqueue_many: {
        Args: {
          dedupe_keys?: string[];
          job: string;
          payloads?: Json[];
          run_at?: string;
          subject_ids?: string[];
          tenant_ids: string[];
        };
        Returns: number;
      };
      everyone_id: { Args: Record<PropertyKey, never>; Returns: string };
      expect_fewer: { Args: { p_items: number[]; p_run_ids: number[] }; Returns: undefined };
      extend_batch: { Args: { batch_id: number }; Returns: boolean };
      finish_ended_runs: { Args: { p_job?: string }; Returns: number[] };
      finish_lost_drains: { Args: { p_now: string }; Returns: undefined };
      finish_run: { Args: { p_run_id: number }; Returns: undefined };
      first_moment: { Args: { p_local: string; p_time_zone: string }; Returns: string };
      follow_clock: { Args: { p_now: string }; Returns: undefined };
      for_members: {
        Args: {
          p_definition: Omit<
            Database['jobs']['Tables']['definitions']['Row'],
            Database['jobs']['Tables']['definitions']['ComputedFields']
          >;
          p_outcomes: Json;
          p_settled: Database['jobs']['CompositeTypes']['settled'][];
        };
        Returns: Database['jobs']['CompositeTypes']['settled'][];
      };
      forecast: {
        Args: { p_now: string };
        Returns: {
          breach_at: string;
          drained_per_minute: number;
          growth_per_minute: number;
          job: string;
          ready: number;
          target_seconds: number;
        }[];
      };
      forget_old: { Args: { p_now: string }; Returns: undefined };
      forget_strays: { Args: Record<PropertyKey, never>; Returns: undefined };
      forget_tenant: { Args: { p_tenant_id: string }; Returns: undefined };
      guard_class: { Args: { p_job: string }; Returns: number };
      guards_of: { Args: { p_tenant_ids: string[] }; Returns: number[] };
      health: { Args: Record<PropertyKey, never>; Returns: Json };
      how_to_sleep: {
        Args: {
          p_clock: Omit<
            Database['jobs']['Tables']['clocks']['Row'],
            Database['jobs']['Tables']['clocks']['ComputedFields']
          >;
          p_definition: Omit<
            Database['jobs']['Tables']['definitions']['Row'],
            Database['jobs']['Tables']['definitions']['ComputedFields']
          >;
          p_floor_ats: string[];
          p_not_before: string[];
          p_now: string;
          p_paused: boolean[];
          p_refused: boolean[];
          p_tenant_ids: string[];
        };
        Returns: {
          detail: string;
          floor_at: string;
          head_at: string;
          reason: string;
          tenant_id: string;
          wake_at: string;
        }[];
      };
      hurry: { Args: { p_job: string; p_subject_ids: string[]; p_tenant_id: string }; Returns: number };
      hurry_or_enqueue: {
        Args: { p_dedupe_keys: string[]; p_job: string; p_subject_ids: string[]; p_tenant_id: string };
        Returns: undefined;
      };
      is_slot_day: {
        Args: { p_cron: Database['jobs']['CompositeTypes']['cron']; p_day: string };
        Returns: boolean;
      };
      is_ticking: { Args: Record<PropertyKey, never>; Returns: boolean };
      judge: {
        Args: {
          p_definition: Omit<
            Database['jobs']['Tables']['definitions']['Row'],
            Database['jobs']['Tables']['definitions']['ComputedFields']
          >;
          p_now: string;
          p_tenant_ids: string[];
        };
        Returns: {
          detail: string;
          rate: number;
          reason: string;
          room: number;
          share: number;
          tenant_id: string;
          wake_at: string;
          weight: number;
        }[];
      };
      judge_lanes: {
        Args: {
          p_definition: Omit<
            Database['jobs']['Tables']['definitions']['Row'],
            Database['jobs']['Tables']['definitions']['ComputedFields']
          >;
          p_now: string;
          p_oldest_batch: number;
          p_paused: boolean[];
          p_tenant_ids: string[];
        };
        Returns: {
          detail: string;
          rate: number;
          reason: string;
          room: number;
          share: number;
          tenant_id: string;
          wake_at: string;
          weight: number;
        }[];
      };
      keep_refreshed_token: {
        Args: { batch_id: number; expires_at: string; item_id: number; token: string };
        Returns: boolean;
      };
      latest_slots: {
        Args: { p_count: number; p_from: string; p_schedule: string; p_until: string; p_zone: string };
        Returns: string[];
      };
      list: { Args: Record<PropertyKey, never>; Returns: Json };
      load_batch: {
        Args: {
          p_batch: Omit<
            Database['jobs']['Tables']['batches']['Row'],
            Database['jobs']['Tables']['batches']['ComputedFields']
          >;
          p_definition: Omit<
            Database['jobs']['Tables']['definitions']['Row'],
            Database['jobs']['Tables']['definitions']['ComputedFields']
          >;
          p_now: string;
        };
        Returns: Json;
      };
      look_at_backlogs: { Args: { p_now: string }; Returns: undefined };
      make_lanes: { Args: { p_job: string; p_tenant_ids: string[] }; Returns: undefined };
      make_partition: {
        Args: { p_column: string; p_from: string; p_name: string; p_table: string; p_until: string };
        Returns: undefined;
      };
      make_partitions: { Args: { p_now: string }; Returns: undefined };
      match_outcomes: {
        Args: {
          p_batch: Omit<
            Database['jobs']['Tables']['batches']['Row'],
            Database['jobs']['Tables']['batches']['ComputedFields']
          >;
          p_definition: Omit<
            Database['jobs']['Tables']['definitions']['Row'],
            Database['jobs']['Tables']['definitions']['ComputedFields']
          >;
          p_now: string;
          p_outcomes: Json;
        };
        Returns: Database['jobs']['CompositeTypes']['settled'][];
      };
      next_batch: {
        Args: { batch_size?: number; drain_id: string; job: string; request?: string };
        Returns: Json;
      };
      next_slots: {
        Args: { after?: string; count?: number; schedule: string; time_zone?: string };
        Returns: string[];
      };
      next_step: { Args: { p_after?: string; p_now?: string }; Returns: string };
      next_times: { Args: { count?: number; job: string }; Returns: string[] };
      next_wake: { Args: { job: string }; Returns: number };
      note_lookbacks: {
        Args: { p_job: string; p_run_ats: string[]; p_tenant_ids: string[] };
        Returns: undefined;
      };
      note_throttles: {
        Args: {
          p_batch: Omit<
            Database['jobs']['Tables']['batches']['Row'],
            Database['jobs']['Tables']['batches']['ComputedFields']
          >;
          p_definition: Omit<
            Database['jobs']['Tables']['definitions']['Row'],
            Database['jobs']['Tables']['definitions']['ComputedFields']
          >;
          p_now: string;
          p_outcomes: Json;
          p_settled: Database['jobs']['CompositeTypes']['settled'][];
        };
        Returns: undefined;
      };
      open_alert: {
        Args: { p_details?: Json; p_incident: string; p_message: string; p_tenant_id: string };
        Returns: undefined;
      };
      open_due_slots: { Args: { p_job?: string; p_now: string }; Returns: number };
      open_run: { Args: { p_job: string; p_trigger: string }; Returns: number };
      park: {
        Args: {
          p_fingerprint: string;
          p_provider: Database['public']['Enums']['provider'];
          p_reason: string;
          p_tenant_id: string;
        };
        Returns: boolean;
      };
      park_broken: {
        Args: {
          p_batch: Omit<
            Database['jobs']['Tables']['batches']['Row'],
            Database['jobs']['Tables']['batches']['ComputedFields']
          >;
          p_definition: Omit<
            Database['jobs']['Tables']['definitions']['Row'],
            Database['jobs']['Tables']['definitions']['ComputedFields']
          >;
          p_settled: Database['jobs']['CompositeTypes']['settled'][];
        };
        Returns: string[];
      };
      parse_cron: {
        Args: { expression: string };
        Returns: Database['jobs']['CompositeTypes']['cron'];
        SetofOptions: {
          from: '*';
          to: 'cron';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      parse_cron_field: {
        Args: { p_field: string; p_high: number; p_low: number; p_name: string; p_names: string[] };
        Returns: number[];
      };
      parse_cron_value: {
        Args: { p_high: number; p_low: number; p_name: string; p_names: string[]; p_text: string };
        Returns: number;
      };
      pause: { Args: { job: string; tenant_id?: string }; Returns: undefined };
      pick: {
        Args: {
          p_batch_id: number;
          p_clock: Omit<
            Database['jobs']['Tables']['clocks']['Row'],
            Database['jobs']['Tables']['clocks']['ComputedFields']
          >;
          p_definition: Omit<
            Database['jobs']['Tables']['definitions']['Row'],
            Database['jobs']['Tables']['definitions']['ComputedFields']
          >;
          p_lanes: number;
          p_now: string;
          p_room: number;
        };
        Returns: Record<string, unknown>;
      };
      platform_id: { Args: Record<PropertyKey, never>; Returns: string };
      provider_is_down: { Args: { p_provider: Database['public']['Enums']['provider'] }; Returns: boolean };
      provider_room: {
        Args: { p_now: string; p_provider: Database['public']['Enums']['provider']; p_size: number };
        Returns: number;
      };
      queue_state: {
        Args: { p_tenant_ids?: string[] };
        Returns: {
          awake: boolean;
          dead: number;
          detail: string;
          expected_start: string;
          in_flight: number;
          job: string;
          oldest_ready_seconds: number;
          plan_id: string;
          ready: number;
          reason: string;
          tenant_id: string;
          waiting: number;
          wake_at: string;
        }[];
      };
      rate_burst: { Args: { p_rate: number }; Returns: number };
      rate_interval: { Args: { p_rate: number }; Returns: number };
      rate_room: { Args: { p_free_at: string; p_now: string; p_rate: number }; Returns: number };
      reap: { Args: { p_job?: string; p_limit?: number; p_now: string }; Returns: number };
      reason_to_skip: { Args: { p_now: string }; Returns: string };
      receive_deletion: { Args: { sha256: string; subject: string; tenant_id: string }; Returns: Json };
      receive_webhook: {
        Args: { body: Json; sha256: string; source: string; tenant_id: string };
        Returns: Json;
      };
      record_comments: { Args: { batch_id: number; post: Json; tenant_id: string }; Returns: number };
      record_follower_count: {
        Args: { day?: string; followers: number; platform: string; tenant_id: string };
        Returns: boolean;
      };
      record_visit: { Args: { code: string; counts?: boolean; tenant: string }; Returns: string };
      recover_from_backup: { Args: { dry_run?: boolean; jobs?: string[] }; Returns: number };
      remove_platform_admin: { Args: { user_id: string }; Returns: boolean };
      replay: {
        Args: { died_after?: string; dry_run?: boolean; job: string; reason?: string; tenant_id?: string };
        Returns: number;
      };
      require_job_and_tenant: { Args: { p_job: string; p_tenant_id: string }; Returns: undefined };
      require_read_committed: { Args: Record<PropertyKey, never>; Returns: undefined };
      resume: { Args: { job: string; tenant_id?: string }; Returns: undefined };
      return_batch: { Args: { batch_id: number }; Returns: number };
      ring: { Args: { p_now: string }; Returns: number };
      ring_once: {
        Args: { p_job: string; p_now: string; p_secret: string; p_url: string };
        Returns: undefined;
      };
      ring_soon: { Args: Record<PropertyKey, never>; Returns: undefined };
      run_counts: {
        Args: { p_run_id: number };
        Returns: {
          errors: Json;
          failed: number;
          processed: number;
        }[];
      };
      run_now: { Args: { job: string }; Returns: Json };
      run_result: { Args: { run_id: number }; Returns: Json };
      service_report: {
        Args: { p_by_tenant?: boolean; p_since: string; p_tenant_ids?: string[] };
        Returns: {
          job: string;
          per_minute: number;
          plan_id: string;
          succeeded: number;
          success_rate: number;
          target_seconds: number;
          tenant_id: string;
          tries: number;
          wait_p50_seconds: number;
          wait_p95_seconds: number;
          wait_p99_seconds: number;
          within_target: number;
        }[];
      };
      set_call_limit: { Args: { calls: number; name: string; seconds: number }; Returns: undefined };
      set_clock: {
        Args: {
          p_clock: Omit<
            Database['jobs']['Tables']['clocks']['Row'],
            Database['jobs']['Tables']['clocks']['ComputedFields']
          >;
        };
        Returns: undefined;
      };
      set_plan: { Args: { plan_id: string; tenant_id: string }; Returns: undefined };
      set_platform_credential: {
        Args: {
          account?: Json;
          kind: string;
          provider: Database['public']['Enums']['provider'];
          secret: Json;
        };
        Returns: Json;
      };
      set_setting: { Args: { name: string; value: string }; Returns: undefined };
      settle: {
        Args: {
          p_batch: Omit<
            Database['jobs']['Tables']['batches']['Row'],
            Database['jobs']['Tables']['batches']['ComputedFields']
          >;
          p_definition: Omit<
            Database['jobs']['Tables']['definitions']['Row'],
            Database['jobs']['Tables']['definitions']['ComputedFields']
          >;
          p_now: string;
          p_outcomes: Json;
        };
        Returns: number;
      };
      settle_emails: {
        Args: {
          bundle_id: string;
          call: number;
          message_ids?: string[];
          outbox_ids?: string[];
          outcome: string;
          tenant_id: string;
          version: number;
        };
        Returns: Json;
      };
      slots_of_day: {
        Args: { p_cron: Database['jobs']['CompositeTypes']['cron']; p_day: string; p_time_zone: string };
        Returns: string[];
      };
      start: { Args: { job: string }; Returns: number };
      start_slot: {
        Args: {
          p_definition: Omit<
            Database['jobs']['Tables']['definitions']['Row'],
            Database['jobs']['Tables']['definitions']['ComputedFields']
          >;
          p_slot: string;
          p_trigger?: string;
        };
        Returns: number;
      };
      start_tick: { Args: { seconds?: number }; Returns: string };
      step_message: {
        Args: {
          p_step: Omit<
            Database['jobs']['Tables']['steps']['Row'],
            Database['jobs']['Tables']['steps']['ComputedFields']
          >;
          p_why: string;
        };
        Returns: string;
      };
      stop_all: { Args: { stopped: boolean }; Returns: undefined };
      take_credentials: {
        Args: {
          p_definition: Omit<
            Database['jobs']['Tables']['definitions']['Row'],
            Database['jobs']['Tables']['definitions']['ComputedFields']
          >;
          p_settled: Database['jobs']['CompositeTypes']['settled'][];
        };
        Returns: undefined;
      };
      take_guards: { Args: { p_job: string; p_tenant_ids: string[] }; Returns: undefined };
      take_lanes: { Args: { p_job: string; p_tenant_ids: string[] }; Returns: undefined };
      take_request: { Args: { ip?: string; key: string; requests: number; seconds: number }; Returns: Json };
      take_step: { Args: { p_limit?: string; p_now?: string; p_step: string }; Returns: number };
      tend: { Args: { p_now: string }; Returns: number };
      throttle_lanes: {
        Args: { p_job: string; p_settled: Database['jobs']['CompositeTypes']['settled'][] };
        Returns: undefined;
      };
      tick: { Args: { steps?: boolean }; Returns: Json };
      try_ring: { Args: { p_now?: string }; Returns: number };
      unpark: {
        Args: { p_provider: Database['public']['Enums']['provider']; p_tenant_id: string };
        Returns: undefined;
      };
      wake_blocked: { Args: { p_job: string; p_reason: string; p_tenant_ids: string[] }; Returns: undefined };
      wake_due_lanes: {
        Args: {
          p_definition: Omit<
            Database['jobs']['Tables']['definitions']['Row'],
            Database['jobs']['Tables']['definitions']['ComputedFields']
          >;
          p_due_from: string;
          p_limit?: number;
          p_now: string;
          p_vtime: number;
        };
        Returns: number;
      };
      wake_lanes: {
        Args: { p_job: string; p_reason?: string; p_run_ats: string[]; p_tenant_ids: string[] };
        Returns: undefined;
      };
      watch: { Args: { p_now: string }; Returns: undefined };
      webhook_secrets: { Args: { provider: string; tenant: string }; Returns: Json };
      why: { Args: { item_id: number; tenant_id?: string }; Returns: string };
      work: { Args: { batch_id?: number }; Returns: number };
      work_batch: { Args: { batch_id?: number; drain_id: string; job: string }; Returns: number };
      work_item: {
        Args: {
          p_definition: Omit<
            Database['jobs']['Tables']['definitions']['Row'],
            Database['jobs']['Tables']['definitions']['ComputedFields']
          >;
          p_item: Omit<
            Database['jobs']['Tables']['items']['Row'],
            Database['jobs']['Tables']['items']['ComputedFields']
          >;
        };
        Returns: Json;
      };
      work_off: { Args: { p_batch_id: number }; Returns: undefined };
      write_lanes: {
        Args: {
          p_costs: number[];
          p_details: string[];
          p_empty: boolean[];
          p_floor_ats: string[];
          p_next_ats: string[];
          p_now: string;
          p_places: unknown[];
          p_reasons: string[];
          p_since: string[];
          p_to_ats: string[];
          p_to_ids: number[];
          p_wake_ats: string[];
        };
        Returns: undefined;
      };
      write_settled: {
        Args: {
          p_batch: Omit<
            Database['jobs']['Tables']['batches']['Row'],
            Database['jobs']['Tables']['batches']['ComputedFields']
          >;
          p_settled: Database['jobs']['CompositeTypes']['settled'][];
        };
        Returns: undefined;
      };
    };
    Enums: {
      kind: 'edge' | 'sql' | 'raw';
      misfire: 'skip' | 'once' | 'all';
      run_status: 'running' | 'success' | 'warning' | 'error';
      scope: 'tenant' | 'platform';
    };
    CompositeTypes: {
      cron: {
        minutes: number[] | null;
        hours: number[] | null;
        days: number[] | null;
        months: number[] | null;
        weekdays: number[] | null;
        any_hour: boolean | null;
        any_day: boolean | null;
        any_weekday: boolean | null;
      };
      ended: {
        tenant_id: string | null;
        item_id: number | null;
        subject_id: string | null;
        outcome: string | null;
        result: Json | null;
        error: string | null;
        credential_source: string | null;
      };
      loaded: {
        item_id: number | null;
        data: Json | null;
        hold_until: string | null;
        reason: string | null;
        cancel: boolean | null;
      };
      settled: {
        tenant_id: string | null;
        item_id: number | null;
        subject_id: string | null;
        outcome: string | null;
        ends: boolean | null;
        dies: string | null;
        result: Json | null;
        error: string | null;
        run_at: string | null;
        waiting_for: string | null;
        attempts: number | null;
        tries: number | null;
        due_at: string | null;
        trace_id: string | null;
        credential_source: string | null;
        run_id: number | null;
        cost: number | null;
        dedupe_key: string | null;
      };
    };
  };
  public: {
    Tables: {
      acknowledgements: {
        Row: {
          acknowledged_at: string;
          campaign_id: string | null;
          id: string;
          rule: string;
          tenant_id: string;
          text: string;
          user_id: string | null;
          version: number;
        };
        ComputedFields: never;
        Insert: {
          acknowledged_at?: string;
          campaign_id?: string | null;
          id?: string;
          rule: string;
          tenant_id: string;
          text: string;
          user_id?: string | null;
          version: number;
        };
        Update: {
          acknowledged_at?: string;
          campaign_id?: string | null;
          id?: string;
          rule?: string;
          tenant_id?: string;
          text?: string;
          user_id?: string | null;
          version?: number;
        };
        Relationships: [
          {
            foreignKeyName: 'acknowledgements_tenant_fkey';
            columns: ['tenant_id'];
            isOneToOne: false;
            referencedRelation: 'tenants';
            referencedColumns: ['id'];
          },
        ];
      };
      audit_log: {
        Row: {
          action: string;
          actor: string;
          actor_id: string | null;
          at: string;
          detail: NonNullable<Json>;
          id: string;
          tenant_id: string;
        };
        ComputedFields: never;
        Insert: {
          action: string;
          actor: string;
          actor_id?: string | null;
          at?: string;
          detail?: NonNullable<Json>;
          id?: string;
          tenant_id: string;
        };
        Update: {
          action?: string;
          actor?: string;
          actor_id?: string | null;
          at?: string;
          detail?: NonNullable<Json>;
          id?: string;
          tenant_id?: string;
        };
        Relationships: [];
      };
      campaign_strategies: {
        Row: {
          acceptance_rate: number;
          campaign_id: string;
          created_at: string;
          statistical_basis: string;
          strategy: string;
          tenant_id: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          acceptance_rate?: number;
          campaign_id: string;
          created_at?: string;
          statistical_basis?: string;
          strategy?: string;
          tenant_id: string;
          updated_at?: string;
        };
        Update: {
          acceptance_rate?: number;
          campaign_id?: string;
          created_at?: string;
          statistical_basis?: string;
          strategy?: string;
          tenant_id?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'campaign_strategies_campaign_fkey';
            columns: ['tenant_id', 'campaign_id'];
            isOneToOne: true;
            referencedRelation: 'campaigns';
            referencedColumns: ['tenant_id', 'id'];
          },
        ];
      };
      campaigns: {
        Row: {
          created_at: string;
          eligibility: string | null;
          ends_at: string | null;
          id: string;
          name: string;
          notifications_enabled: boolean;
          notify_from: string;
          notify_until: string;
          official_rules: string | null;
          prize_terms: string | null;
          promotion: boolean;
          release_text: string | null;
          reward_after: string | null;
          starts_at: string;
          status: Database['public']['Enums']['campaign_status'];
          tenant_id: string;
          time_zone: string;
          updated_at: string;
          username_match: boolean;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          eligibility?: string | null;
          ends_at?: string | null;
          id?: string;
          name: string;
          notifications_enabled?: boolean;
          notify_from?: string;
          notify_until?: string;
          official_rules?: string | null;
          prize_terms?: string | null;
          promotion?: boolean;
          release_text?: string | null;
          reward_after?: string | null;
          starts_at?: string;
          status?: Database['public']['Enums']['campaign_status'];
          tenant_id: string;
          time_zone?: string;
          updated_at?: string;
          username_match?: boolean;
        };
        Update: {
          created_at?: string;
          eligibility?: string | null;
          ends_at?: string | null;
          id?: string;
          name?: string;
          notifications_enabled?: boolean;
          notify_from?: string;
          notify_until?: string;
          official_rules?: string | null;
          prize_terms?: string | null;
          promotion?: boolean;
          release_text?: string | null;
          reward_after?: string | null;
          starts_at?: string;
          status?: Database['public']['Enums']['campaign_status'];
          tenant_id?: string;
          time_zone?: string;
          updated_at?: string;
          username_match?: boolean;
        };
        Relationships: [
          {
            foreignKeyName: 'campaigns_tenant_fkey';
            columns: ['tenant_id'];
            isOneToOne: false;
            referencedRelation: 'tenants';
            referencedColumns: ['id'];
          },
        ];
      };
      cohorts: {
        Row: {
          acceptance_rate: number | null;
          created_at: string;
          id: string;
          name: string;
          statistical_basis: string | null;
          strategy: string | null;
          tenant_id: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          acceptance_rate?: number | null;
          created_at?: string;
          id?: string;
          name: string;
          statistical_basis?: string | null;
          strategy?: string | null;
          tenant_id: string;
          updated_at?: string;
        };
        Update: {
          acceptance_rate?: number | null;
          created_at?: string;
          id?: string;
          name?: string;
          statistical_basis?: string | null;
          strategy?: string | null;
          tenant_id?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'cohorts_tenant_fkey';
            columns: ['tenant_id'];
            isOneToOne: false;
            referencedRelation: 'tenants';
            referencedColumns: ['id'];
          },
        ];
      };
      completion_decisions: {
        Row: {
          actor: string;
          actor_id: string | null;
          at: string;
          completion_id: string;
          evidence: Json | null;
          from_status: string;
          id: string;
          method: string | null;
          participant_id: string;
          reason: string | null;
          rule_version: number;
          task_id: string;
          tenant_id: string;
          to_status: string;
        };
        ComputedFields: never;
        Insert: {
          actor: string;
          actor_id?: string | null;
          at?: string;
          completion_id: string;
          evidence?: Json | null;
          from_status: string;
          id?: string;
          method?: string | null;
          participant_id: string;
          reason?: string | null;
          rule_version: number;
          task_id: string;
          tenant_id: string;
          to_status: string;
        };
        Update: {
          actor?: string;
          actor_id?: string | null;
          at?: string;
          completion_id?: string;
          evidence?: Json | null;
          from_status?: string;
          id?: string;
          method?: string | null;
          participant_id?: string;
          reason?: string | null;
          rule_version?: number;
          task_id?: string;
          tenant_id?: string;
          to_status?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'completion_decisions_tenant_fkey';
            columns: ['tenant_id'];
            isOneToOne: false;
            referencedRelation: 'tenants';
            referencedColumns: ['id'];
          },
        ];
      };
      completions: {
        Row: {
          action_url: string | null;
          claimed_at: string;
          code: string;
          created_at: string;
          credential_source: string | null;
          deadline: string;
          evidence: Json | null;
          id: string;
          method: string | null;
          participant_id: string;
          reason: string | null;
          route: string;
          seen_at: string | null;
          settle_at: string | null;
          status: Database['public']['Enums']['completion_status'];
          task_id: string;
          tenant_id: string;
          updated_at: string;
          verified_at: string | null;
        };
        ComputedFields: never;
        Insert: {
          action_url?: string | null;
          claimed_at?: string;
          code: string;
          created_at?: string;
          credential_source?: string | null;
          deadline: string;
          evidence?: Json | null;
          id?: string;
          method?: string | null;
          participant_id: string;
          reason?: string | null;
          route?: string;
          seen_at?: string | null;
          settle_at?: string | null;
          status?: Database['public']['Enums']['completion_status'];
          task_id: string;
          tenant_id: string;
          updated_at?: string;
          verified_at?: string | null;
        };
        Update: {
          action_url?: string | null;
          claimed_at?: string;
          code?: string;
          created_at?: string;
          credential_source?: string | null;
          deadline?: string;
          evidence?: Json | null;
          id?: string;
          method?: string | null;
          participant_id?: string;
          reason?: string | null;
          route?: string;
          seen_at?: string | null;
          settle_at?: string | null;
          status?: Database['public']['Enums']['completion_status'];
          task_id?: string;
          tenant_id?: string;
          updated_at?: string;
          verified_at?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: 'completions_participant_fkey';
            columns: ['tenant_id', 'participant_id'];
            isOneToOne: false;
            referencedRelation: 'participants';
            referencedColumns: ['tenant_id', 'id'];
          },
          {
            foreignKeyName: 'completions_task_fkey';
            columns: ['tenant_id', 'task_id'];
            isOneToOne: false;
            referencedRelation: 'social_tasks';
            referencedColumns: ['tenant_id', 'id'];
          },
        ];
      };
      credentials: {
        Row: {
          account: NonNullable<Json>;
          checked_at: string | null;
          created_at: string;
          expires_at: string | null;
          fingerprint: string;
          health: Database['public']['Enums']['credential_health'];
          health_reason: string | null;
          id: string;
          kind: string;
          provider: Database['public']['Enums']['provider'];
          scopes: string[] | null;
          secret_at: string;
          secret_id: string;
          secret_keys: string[];
          state: string;
          tenant_id: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          account?: NonNullable<Json>;
          checked_at?: string | null;
          created_at?: string;
          expires_at?: string | null;
          fingerprint: string;
          health?: Database['public']['Enums']['credential_health'];
          health_reason?: string | null;
          id?: string;
          kind: string;
          provider: Database['public']['Enums']['provider'];
          scopes?: string[] | null;
          secret_at?: string;
          secret_id: string;
          secret_keys?: string[];
          state?: string;
          tenant_id: string;
          updated_at?: string;
        };
        Update: {
          account?: NonNullable<Json>;
          checked_at?: string | null;
          created_at?: string;
          expires_at?: string | null;
          fingerprint?: string;
          health?: Database['public']['Enums']['credential_health'];
          health_reason?: string | null;
          id?: string;
          kind?: string;
          provider?: Database['public']['Enums']['provider'];
          scopes?: string[] | null;
          secret_at?: string;
          secret_id?: string;
          secret_keys?: string[];
          state?: string;
          tenant_id?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'credentials_tenant_fkey';
            columns: ['tenant_id'];
            isOneToOne: false;
            referencedRelation: 'tenants';
            referencedColumns: ['id'];
          },
        ];
      };
      data_deletions: {
        Row: {
          completed_at: string | null;
          confirmation_code: string;
          erased: NonNullable<Json>;
          id: string;
          request_sha256: string;
          requested_at: string;
          status: string;
          subject: string | null;
          tenant_id: string;
        };
        ComputedFields: never;
        Insert: {
          completed_at?: string | null;
          confirmation_code?: string;
          erased?: NonNullable<Json>;
          id?: string;
          request_sha256: string;
          requested_at?: string;
          status?: string;
          subject?: string | null;
          tenant_id: string;
        };
        Update: {
          completed_at?: string | null;
          confirmation_code?: string;
          erased?: NonNullable<Json>;
          id?: string;
          request_sha256?: string;
          requested_at?: string;
          status?: string;
          subject?: string | null;
          tenant_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'data_deletions_tenant_fkey';
            columns: ['tenant_id'];
            isOneToOne: false;
            referencedRelation: 'tenants';
            referencedColumns: ['id'];
          },
        ];
      };
      follower_counts: {
        Row: {
          account_id: string | null;
          day: string;
          followers: number;
          measured_at: string;
          platform: string;
          tenant_id: string;
        };
        ComputedFields: never;
        Insert: {
          account_id?: string | null;
          day: string;
          followers: number;
          measured_at?: string;
          platform: string;
          tenant_id: string;
        };
        Update: {
          account_id?: string | null;
          day?: string;
          followers?: number;
          measured_at?: string;
          platform?: string;
          tenant_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'follower_counts_tenant_fkey';
            columns: ['tenant_id'];
            isOneToOne: false;
            referencedRelation: 'tenants';
            referencedColumns: ['id'];
          },
        ];
      };
      invitations: {
        Row: {
          accepted_at: string | null;
          accepted_by: string | null;
          created_at: string;
          email: string;
          expires_at: string;
          id: string;
          invited_by: string | null;
          revoked_at: string | null;
          role: Database['public']['Enums']['member_role'];
          tenant_id: string;
          token_hash: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          accepted_at?: string | null;
          accepted_by?: string | null;
          created_at?: string;
          email: string;
          expires_at: string;
          id?: string;
          invited_by?: string | null;
          revoked_at?: string | null;
          role: Database['public']['Enums']['member_role'];
          tenant_id: string;
          token_hash: string;
          updated_at?: string;
        };
        Update: {
          accepted_at?: string | null;
          accepted_by?: string | null;
          created_at?: string;
          email?: string;
          expires_at?: string;
          id?: string;
          invited_by?: string | null;
          revoked_at?: string | null;
          role?: Database['public']['Enums']['member_role'];
          tenant_id?: string;
          token_hash?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'invitations_tenant_fkey';
            columns: ['tenant_id'];
            isOneToOne: false;
            referencedRelation: 'tenants';
            referencedColumns: ['id'];
          },
        ];
      };
      linked_accounts: {
        Row: {
          external_id: string;
          id: string;
          linked_at: string;
          linked_by: string;
          participant_id: string;
          platform: string;
          tenant_id: string;
          username: string | null;
        };
        ComputedFields: never;
        Insert: {
          external_id: string;
          id?: string;
          linked_at?: string;
          linked_by: string;
          participant_id: string;
          platform: string;
          tenant_id: string;
          username?: string | null;
        };
        Update: {
          external_id?: string;
          id?: string;
          linked_at?: string;
          linked_by?: string;
          participant_id?: string;
          platform?: string;
          tenant_id?: string;
          username?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: 'linked_accounts_participant_fkey';
            columns: ['tenant_id', 'participant_id'];
            isOneToOne: false;
            referencedRelation: 'participants';
            referencedColumns: ['tenant_id', 'id'];
          },
        ];
      };
      memberships: {
        Row: {
          created_at: string;
          role: Database['public']['Enums']['member_role'];
          tenant_id: string;
          updated_at: string;
          user_id: string;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          role: Database['public']['Enums']['member_role'];
          tenant_id: string;
          updated_at?: string;
          user_id: string;
        };
        Update: {
          created_at?: string;
          role?: Database['public']['Enums']['member_role'];
          tenant_id?: string;
          updated_at?: string;
          user_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'memberships_tenant_fkey';
            columns: ['tenant_id'];
            isOneToOne: false;
            referencedRelation: 'tenants';
            referencedColumns: ['id'];
          },
        ];
      };
      message_settings: {
        Row: {
          created_at: string;
          messages_per_second: number | null;
          resend_unknown: boolean;
          tenant_id: string;
          updated_at: string;
          welcome_enabled: boolean;
        };
        ComputedFields: never;
        Insert: {
          created_at?: string;
          messages_per_second?: number | null;
          resend_unknown?: boolean;
          tenant_id: string;
          updated_at?: string;
          welcome_enabled?: boolean;
        };
        Update: {
          created_at?: string;
          messages_per_second?: number | null;
          resend_unknown?: boolean;
          tenant_id?: string;
          updated_at?: string;
          welcome_enabled?: boolean;
        };
        Relationships: [
          {
            foreignKeyName: 'message_settings_tenant_fkey';
            columns: ['tenant_id'];
            isOneToOne: true;
            referencedRelation: 'tenants';
            referencedColumns: ['id'];
          },
        ];
      };
      message_templates: {
        Row: {
          body: string;
          category: string;
          channel: string;
          created_at: string;
          id: string;
          kind: Database['public']['Enums']['message_kind'];
          language: string;
          pause_reason: string | null;
          paused_at: string | null;
          subject: string | null;
          tenant_id: string;
          updated_at: string;
          whatsapp_parameters: string[];
          whatsapp_parameters_are_named: boolean;
          whatsapp_template_language: string | null;
          whatsapp_template_name: string | null;
        };
        ComputedFields: never;
        Insert: {
          body: string;
          category?: string;
          channel?: string;
          created_at?: string;
          id?: string;
          kind: Database['public']['Enums']['message_kind'];
          language?: string;
          pause_reason?: string | null;
          paused_at?: string | null;
          subject?: string | null;
          tenant_id: string;
          updated_at?: string;
          whatsapp_parameters?: string[];
          whatsapp_parameters_are_named?: boolean;
          whatsapp_template_language?: string | null;
          whatsapp_template_name?: string | null;
        };
        Update: {
          body?: string;
          category?: string;
          channel?: string;
          created_at?: string;
          id?: string;
          kind?: Database['public']['Enums']['message_kind'];
          language?: string;
          pause_reason?: string | null;
          paused_at?: string | null;
          subject?: string | null;
          tenant_id?: string;
          updated_at?: string;
          whatsapp_parameters?: string[];
          whatsapp_parameters_are_named?: boolean;
          whatsapp_template_language?: string | null;
          whatsapp_template_name?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: 'message_templates_tenant_fkey';
            columns: ['tenant_id'];
            isOneToOne: false;
            referencedRelation: 'tenants';
            referencedColumns: ['id'];
          },
        ];
      };
      notification_outbox: {
        Row: {
          body: string;
          bundled: boolean;
          campaign_id: string | null;
          category: string;
          channel: string;
          completion_id: string | null;
          created_at: string;
          credential_source: string | null;
          dedupe_key: string;
          delivery: string | null;
          delivery_at: string | null;
          earlier_message_ids: string[];
          error_code: number | null;
          first_tried_at: string | null;
          held_until: string | null;
          id: string;
          kind: Database['public']['Enums']['message_kind'];
          language: string | null;
          participant_id: string | null;
          payload: NonNullable<Json>;
          provider_message_id: string | null;
          reason: string | null;
          recipient: string | null;
          resends: number;
          sent: boolean;
          sent_at: string | null;
          status: Database['public']['Enums']['message_status'];
          subject: string | null;
          template_id: string | null;
          tenant_id: string;
          unknown_since: string | null;
          updated_at: string;
          variables: NonNullable<Json>;
        };
        ComputedFields: never;
        Insert: {
          body: string;
          bundled?: boolean;
          campaign_id?: string | null;
          category?: string;
          channel?: string;
          completion_id?: string | null;
          created_at?: string;
          credential_source?: string | null;
          dedupe_key?: string;
          delivery?: string | null;
          delivery_at?: string | null;
          earlier_message_ids?: string[];
          error_code?: number | null;
          first_tried_at?: string | null;
          held_until?: string | null;
          id?: string;
          kind: Database['public']['Enums']['message_kind'];
          language?: string | null;
          participant_id?: string | null;
          payload?: NonNullable<Json>;
          provider_message_id?: string | null;
          reason?: string | null;
          recipient?: string | null;
          resends?: number;
          sent?: never;
          sent_at?: string | null;
          status?: Database['public']['Enums']['message_status'];
          subject?: string | null;
          template_id?: string | null;
          tenant_id: string;
          unknown_since?: string | null;
          updated_at?: string;
          variables?: NonNullable<Json>;
        };
        Update: {
          body?: string;
          bundled?: boolean;
          campaign_id?: string | null;
          category?: string;
          channel?: string;
          completion_id?: string | null;
          created_at?: string;
          credential_source?: string | null;
          dedupe_key?: string;
          delivery?: string | null;
          delivery_at?: string | null;
          earlier_message_ids?: string[];
          error_code?: number | null;
          first_tried_at?: string | null;
          held_until?: string | null;
          id?: string;
          kind?: Database['public']['Enums']['message_kind'];
          language?: string | null;
          participant_id?: string | null;
          payload?: NonNullable<Json>;
          provider_message_id?: string | null;
          reason?: string | null;
          recipient?: string | null;
          resends?: number;
          sent?: never;
          sent_at?: string | null;
          status?: Database['public']['Enums']['message_status'];
          subject?: string | null;
          template_id?: string | null;
          tenant_id?: string;
          unknown_since?: string | null;
          updated_at?: string;
          variables?: NonNullable<Json>;
        };
        Relationships: [
          {
            foreignKeyName: 'notification_outbox_campaign_fkey';
            columns: ['tenant_id', 'campaign_id'];
            isOneToOne: false;
            referencedRelation: 'campaigns';
            referencedColumns: ['tenant_id', 'id'];
          },
          {
            foreignKeyName: 'notification_outbox_completion_fkey';
            columns: ['tenant_id', 'completion_id'];
            isOneToOne: false;
            referencedRelation: 'completions';
            referencedColumns: ['tenant_id', 'id'];
          },
          {
            foreignKeyName: 'notification_outbox_completion_fkey';
            columns: ['tenant_id', 'completion_id'];
            isOneToOne: false;
            referencedRelation: 'reviews';
            referencedColumns: ['tenant_id', 'completion_id'];
          },
          {
            foreignKeyName: 'notification_outbox_participant_fkey';
            columns: ['tenant_id', 'participant_id'];
            isOneToOne: false;
            referencedRelation: 'participants';
            referencedColumns: ['tenant_id', 'id'];
          },
          {
            foreignKeyName: 'notification_outbox_template_fkey';
            columns: ['tenant_id', 'template_id'];
            isOneToOne: false;
            referencedRelation: 'message_templates';
            referencedColumns: ['tenant_id', 'id'];
          },
          {
            foreignKeyName: 'notification_outbox_tenant_fkey';
            columns: ['tenant_id'];
            isOneToOne: false;
            referencedRelation: 'tenants';
            referencedColumns: ['id'];
          },
        ];
      };
      opt_ins: {
        Row: {
          at: string;
          business_name: string | null;
          category: string;
          channel: string;
          granted: boolean;
          id: string;
          participant_id: string;
          position: number;
          source: string;
          tenant_id: string;
          wording: string | null;
          wording_version: string | null;
        };
        ComputedFields: never;
        Insert: {
          at?: string;
          business_name?: string | null;
          category?: string;
          channel: string;
          granted: boolean;
          id?: string;
          participant_id: string;
          position?: never;
          source: string;
          tenant_id: string;
          wording?: string | null;
          wording_version?: string | null;
        };
        Update: {
          at?: string;
          business_name?: string | null;
          category?: string;
          channel?: string;
          granted?: boolean;
          id?: string;
          participant_id?: string;
          position?: never;
          source?: string;
          tenant_id?: string;
          wording?: string | null;
          wording_version?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: 'opt_ins_participant_fkey';
            columns: ['tenant_id', 'participant_id'];
            isOneToOne: false;
            referencedRelation: 'participants';
            referencedColumns: ['tenant_id', 'id'];
          },
        ];
      };
      participants: {
        Row: {
          cohort_id: string | null;
          created_at: string;
          display_name: string;
          facebook_user_id: string | null;
          id: string;
          instagram_username: string | null;
          language: string | null;
          phone: string | null;
          tenant_id: string;
          updated_at: string;
          user_id: string | null;
          whatsapp_opt_in_at: string | null;
        };
        ComputedFields: never;
        Insert: {
          cohort_id?: string | null;
          created_at?: string;
          display_name: string;
          facebook_user_id?: string | null;
          id?: string;
          instagram_username?: string | null;
          language?: string | null;
          phone?: string | null;
          tenant_id: string;
          updated_at?: string;
          user_id?: string | null;
          whatsapp_opt_in_at?: string | null;
        };
        Update: {
          cohort_id?: string | null;
          created_at?: string;
          display_name?: string;
          facebook_user_id?: string | null;
          id?: string;
          instagram_username?: string | null;
          language?: string | null;
          phone?: string | null;
          tenant_id?: string;
          updated_at?: string;
          user_id?: string | null;
          whatsapp_opt_in_at?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: 'participants_cohort_fkey';
            columns: ['tenant_id', 'cohort_id'];
            isOneToOne: false;
            referencedRelation: 'cohorts';
            referencedColumns: ['tenant_id', 'id'];
          },
          {
            foreignKeyName: 'participants_tenant_fkey';
            columns: ['tenant_id'];
            isOneToOne: false;
            referencedRelation: 'tenants';
            referencedColumns: ['id'];
          },
        ];
      };
      plans: {
        Row: {
          batch_share: number;
          cadence_seconds: number;
          cap: number;
          name: string;
          plan_id: string;
          position: number;
          rate_per_minute: number | null;
          target_seconds: number;
          weight: number;
        };
        ComputedFields: never;
        Insert: {
          batch_share: number;
          cadence_seconds: number;
          cap: number;
          name: string;
          plan_id: string;
          position: number;
          rate_per_minute?: number | null;
          target_seconds: number;
          weight?: number;
        };
        Update: {
          batch_share?: number;
          cadence_seconds?: number;
          cap?: number;
          name?: string;
          plan_id?: string;
          position?: number;
          rate_per_minute?: number | null;
          target_seconds?: number;
          weight?: number;
        };
        Relationships: [];
      };
      reminder_settings: {
        Row: {
          campaign_id: string;
          created_at: string;
          enabled: boolean;
          remind_before: string;
          tenant_id: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          campaign_id: string;
          created_at?: string;
          enabled?: boolean;
          remind_before?: string;
          tenant_id: string;
          updated_at?: string;
        };
        Update: {
          campaign_id?: string;
          created_at?: string;
          enabled?: boolean;
          remind_before?: string;
          tenant_id?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'reminder_settings_campaign_fkey';
            columns: ['tenant_id', 'campaign_id'];
            isOneToOne: true;
            referencedRelation: 'campaigns';
            referencedColumns: ['tenant_id', 'id'];
          },
        ];
      };
      rules: {
        Row: {
          rule: string;
          text: string;
          version: number;
        };
        ComputedFields: never;
        Insert: {
          rule: string;
          text: string;
          version: number;
        };
        Update: {
          rule?: string;
          text?: string;
          version?: number;
        };
        Relationships: [];
      };
      social_tasks: {
        Row: {
          active: boolean;
          campaign_id: string;
          created_at: string;
          id: string;
          keyword: string | null;
          kind: Database['public']['Enums']['task_kind'];
          platform_credential_allowed: boolean;
          post_id: string | null;
          recheck_every: string;
          reward_spins: number;
          tenant_id: string;
          title: string;
          updated_at: string;
          url: string | null;
          verify_within: string;
        };
        ComputedFields: never;
        Insert: {
          active?: boolean;
          campaign_id: string;
          created_at?: string;
          id?: string;
          keyword?: string | null;
          kind: Database['public']['Enums']['task_kind'];
          platform_credential_allowed?: boolean;
          post_id?: string | null;
          recheck_every?: string;
          reward_spins?: number;
          tenant_id: string;
          title: string;
          updated_at?: string;
          url?: string | null;
          verify_within?: string;
        };
        Update: {
          active?: boolean;
          campaign_id?: string;
          created_at?: string;
          id?: string;
          keyword?: string | null;
          kind?: Database['public']['Enums']['task_kind'];
          platform_credential_allowed?: boolean;
          post_id?: string | null;
          recheck_every?: string;
          reward_spins?: number;
          tenant_id?: string;
          title?: string;
          updated_at?: string;
          url?: string | null;
          verify_within?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'social_tasks_campaign_fkey';
            columns: ['tenant_id', 'campaign_id'];
            isOneToOne: false;
            referencedRelation: 'campaigns';
            referencedColumns: ['tenant_id', 'id'];
          },
        ];
      };
      spin_ledger: {
        Row: {
          campaign_id: string;
          completion_id: string | null;
          created_at: string;
          id: string;
          participant_id: string;
          reason: string;
          spins: number;
          tenant_id: string;
        };
        ComputedFields: never;
        Insert: {
          campaign_id: string;
          completion_id?: string | null;
          created_at?: string;
          id?: string;
          participant_id: string;
          reason: string;
          spins: number;
          tenant_id: string;
        };
        Update: {
          campaign_id?: string;
          completion_id?: string | null;
          created_at?: string;
          id?: string;
          participant_id?: string;
          reason?: string;
          spins?: number;
          tenant_id?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'spin_ledger_campaign_fkey';
            columns: ['tenant_id', 'campaign_id'];
            isOneToOne: false;
            referencedRelation: 'campaigns';
            referencedColumns: ['tenant_id', 'id'];
          },
          {
            foreignKeyName: 'spin_ledger_completion_fkey';
            columns: ['tenant_id', 'completion_id'];
            isOneToOne: true;
            referencedRelation: 'completions';
            referencedColumns: ['tenant_id', 'id'];
          },
          {
            foreignKeyName: 'spin_ledger_completion_fkey';
            columns: ['tenant_id', 'completion_id'];
            isOneToOne: true;
            referencedRelation: 'reviews';
            referencedColumns: ['tenant_id', 'completion_id'];
          },
          {
            foreignKeyName: 'spin_ledger_participant_fkey';
            columns: ['tenant_id', 'participant_id'];
            isOneToOne: false;
            referencedRelation: 'participants';
            referencedColumns: ['tenant_id', 'id'];
          },
        ];
      };
      task_kinds: {
        Row: {
          kind: string;
          needs: string;
          note: string;
          proof: string;
          proven_by: string;
          provider: Database['public']['Enums']['provider'] | null;
          rewarded_engagement: boolean;
          rule_version: number;
          surface: string;
        };
        ComputedFields: never;
        Insert: {
          kind: string;
          needs: string;
          note: string;
          proof: string;
          proven_by: string;
          provider?: Database['public']['Enums']['provider'] | null;
          rewarded_engagement?: boolean;
          rule_version: number;
          surface: string;
        };
        Update: {
          kind?: string;
          needs?: string;
          note?: string;
          proof?: string;
          proven_by?: string;
          provider?: Database['public']['Enums']['provider'] | null;
          rewarded_engagement?: boolean;
          rule_version?: number;
          surface?: string;
        };
        Relationships: [];
      };
      tenants: {
        Row: {
          campaign_notifications: boolean;
          campaign_notify_from: string;
          campaign_notify_until: string;
          created_at: string;
          id: string;
          locale: string;
          name: string;
          plan_id: string;
          slug: string;
          status: Database['public']['Enums']['tenant_status'];
          time_zone: string;
          updated_at: string;
        };
        ComputedFields: never;
        Insert: {
          campaign_notifications?: boolean;
          campaign_notify_from?: string;
          campaign_notify_until?: string;
          created_at?: string;
          id?: string;
          locale?: string;
          name: string;
          plan_id?: string;
          slug: string;
          status?: Database['public']['Enums']['tenant_status'];
          time_zone?: string;
          updated_at?: string;
        };
        Update: {
          campaign_notifications?: boolean;
          campaign_notify_from?: string;
          campaign_notify_until?: string;
          created_at?: string;
          id?: string;
          locale?: string;
          name?: string;
          plan_id?: string;
          slug?: string;
          status?: Database['public']['Enums']['tenant_status'];
          time_zone?: string;
          updated_at?: string;
        };
        Relationships: [
          {
            foreignKeyName: 'tenants_plan_fkey';
            columns: ['plan_id'];
            isOneToOne: false;
            referencedRelation: 'plans';
            referencedColumns: ['plan_id'];
          },
        ];
      };
    };
    Views: {
      job_queues: {
        Row: {
          awake: boolean | null;
          dead: number | null;
          detail: string | null;
          expected_start: string | null;
          in_flight: number | null;
          job: string | null;
          oldest_ready_seconds: number | null;
          plan_id: string | null;
          ready: number | null;
          reason: string | null;
          tenant_id: string | null;
          waiting: number | null;
          wake_at: string | null;
        };
        ComputedFields: never;
        Relationships: [];
      };
      job_service_levels: {
        Row: {
          job: string | null;
          per_minute: number | null;
          plan_id: string | null;
          succeeded: number | null;
          success_rate: number | null;
          target_seconds: number | null;
          tenant_id: string | null;
          tries: number | null;
          wait_p50_seconds: number | null;
          wait_p95_seconds: number | null;
          wait_p99_seconds: number | null;
          within_target: number | null;
        };
        ComputedFields: never;
        Relationships: [];
      };
      reviews: {
        Row: {
          campaign: string;
          campaign_id: string;
          claimed_at: string;
          code: string;
          completion_id: string;
          display_name: string;
          evidence: Json | null;
          instagram_username: string | null;
          kind: string | null;
          participant_id: string;
          reason: string | null;
          task_id: string;
          tenant_id: string;
          title: string;
        };
        ComputedFields: never;
        Relationships: [
          {
            foreignKeyName: 'completions_participant_fkey';
            columns: ['tenant_id', 'participant_id'];
            isOneToOne: false;
            referencedRelation: 'participants';
            referencedColumns: ['tenant_id', 'id'];
          },
          {
            foreignKeyName: 'completions_task_fkey';
            columns: ['tenant_id', 'task_id'];
            isOneToOne: false;
            referencedRelation: 'social_tasks';
            referencedColumns: ['tenant_id', 'id'];
          },
        ];
      };
      verification_summary: {
        Row: {
          basis: string | null;
          campaign: string;
          campaign_id: string;
          completions: number | null;
          is_estimate: boolean | null;
          kind: string | null;
          method: string | null;
          spins: number | null;
          status: string | null;
          task_id: string;
          tenant_id: string;
          title: string;
        };
        ComputedFields: never;
        Relationships: [
          {
            foreignKeyName: 'completions_task_fkey';
            columns: ['tenant_id', 'task_id'];
            isOneToOne: false;
            referencedRelation: 'social_tasks';
            referencedColumns: ['tenant_id', 'id'];
          },
        ];
      };
    };
    Functions: {
      accept_invitation: { Args: { token: string }; Returns: Json };
      acknowledge_rule: {
        Args: { campaign_id?: string; rule: string; tenant_id: string; version: number };
        Returns: string;
      };
      approve_completion: {
        Args: { completion_id: string; note?: string; tenant_id: string };
        Returns: Json;
      };
      change_role: {
        Args: { role: Database['public']['Enums']['member_role']; tenant_id: string; user_id: string };
        Returns: undefined;
      };
      claim_task: { Args: { task_id: string; tenant_id: string }; Returns: Json };
      close_tenant: { Args: { tenant_id: string }; Returns: undefined };
      confirm_sign_up: { Args: { code: string; tenant_id: string }; Returns: Json };
      create_campaign: {
        Args: {
          ends_at?: string;
          name: string;
          notifications_enabled?: boolean;
          notify_from?: string;
          notify_until?: string;
          starts_at?: string;
          tenant_id: string;
          time_zone?: string;
        };
        Returns: {
          created_at: string;
          eligibility: string | null;
          ends_at: string | null;
          id: string;
          name: string;
          notifications_enabled: boolean;
          notify_from: string;
          notify_until: string;
          official_rules: string | null;
          prize_terms: string | null;
          promotion: boolean;
          release_text: string | null;
          reward_after: string | null;
          starts_at: string;
          status: Database['public']['Enums']['campaign_status'];
          tenant_id: string;
          time_zone: string;
          updated_at: string;
          username_match: boolean;
        };
        SetofOptions: {
          from: '*';
          to: 'campaigns';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      create_tenant: {
        Args: { name: string; slug: string; time_zone?: string };
        Returns: {
          campaign_notifications: boolean;
          campaign_notify_from: string;
          campaign_notify_until: string;
          created_at: string;
          id: string;
          locale: string;
          name: string;
          plan_id: string;
          slug: string;
          status: Database['public']['Enums']['tenant_status'];
          time_zone: string;
          updated_at: string;
        };
        SetofOptions: {
          from: '*';
          to: 'tenants';
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      invite_member: {
        Args: {
          email: string;
          role?: Database['public']['Enums']['member_role'];
          tenant_id: string;
          valid_days?: number;
        };
        Returns: Json;
      };
      join_campaign: {
        Args: {
          campaign_id: string;
          display_name: string;
          facebook_user_id?: string;
          instagram_username?: string;
          phone?: string;
          tenant_id: string;
          whatsapp_opt_in?: boolean;
        };
        Returns: string;
      };
      leave_tenant: { Args: { tenant_id: string }; Returns: undefined };
      list_credentials: {
        Args: { tenant_id: string };
        Returns: {
          account: Json;
          advice: string;
          checked_at: string;
          expires_at: string;
          fingerprint: string;
          health: Database['public']['Enums']['credential_health'];
          kind: string;
          provider: Database['public']['Enums']['provider'];
          reason: string;
          scopes: string[];
          state: string;
        }[];
      };
      list_members: {
        Args: { tenant_id: string };
        Returns: {
          email: string;
          role: Database['public']['Enums']['member_role'];
          since: string;
          user_id: string;
        }[];
      };
      my_tenants: {
        Args: Record<PropertyKey, never>;
        Returns: {
          is_active: boolean;
          locale: string;
          name: string;
          role: Database['public']['Enums']['member_role'];
          slug: string;
          status: Database['public']['Enums']['tenant_status'];
          tenant_id: string;
          time_zone: string;
        }[];
      };
      opt_in: { Args: { channel: string; tenant_id: string; wording?: string }; Returns: Json };
      opt_out: { Args: { channel: string; tenant_id: string }; Returns: Json };
      preview_message: {
        Args: {
          channel?: string;
          kind: Database['public']['Enums']['message_kind'];
          language?: string;
          tenant_id: string;
        };
        Returns: Json;
      };
      recheck_credential: {
        Args: { provider: Database['public']['Enums']['provider']; tenant_id: string };
        Returns: boolean;
      };
      reject_completion: {
        Args: { completion_id: string; reason: string; tenant_id: string };
        Returns: Json;
      };
      remove_credential: {
        Args: { provider: Database['public']['Enums']['provider']; tenant_id: string };
        Returns: boolean;
      };
      remove_member: { Args: { tenant_id: string; user_id: string }; Returns: undefined };
      reopen_tenant: { Args: { tenant_id: string }; Returns: undefined };
      resume_sending: { Args: { tenant_id: string }; Returns: boolean };
      revoke_invitation: { Args: { invitation_id: string; tenant_id: string }; Returns: boolean };
      set_active_tenant: { Args: { tenant_id?: string }; Returns: undefined };
      set_cohort: {
        Args: { cohort_id?: string; participant_ids: string[]; tenant_id: string };
        Returns: number;
      };
      set_credential: {
        Args: {
          account?: Json;
          kind: string;
          provider: Database['public']['Enums']['provider'];
          secret: Json;
          tenant_id: string;
        };
        Returns: Json;
      };
      start_linking: { Args: { platform: string; tenant_id: string }; Returns: Json };
      suspend_tenant: { Args: { reason: string; tenant_id: string }; Returns: undefined };
      transfer_ownership: { Args: { tenant_id: string; user_id: string }; Returns: undefined };
      unlink_account: { Args: { platform: string; tenant_id: string }; Returns: boolean };
      why: { Args: { item_id: number; tenant_id: string }; Returns: string };
    };
    Enums: {
      campaign_status: 'draft' | 'active' | 'ended';
      completion_status: 'pending' | 'verified' | 'failed' | 'manual_review' | 'needs_user_action';
      credential_health: 'unchecked' | 'healthy' | 'broken';
      member_role: 'viewer' | 'member' | 'admin' | 'owner';
      message_kind: 'congratulation' | 'reminder' | 'welcome' | 'review_result' | 'alert';
      message_status: 'queued' | 'sent' | 'unknown' | 'failed' | 'disabled' | 'no_consent' | 'cancelled';
      provider: 'meta' | 'whatsapp' | 'stripe' | 'email';
      task_kind:
        | 'instagram_comment'
        | 'facebook_comment'
        | 'instagram_photo_tag'
        | 'instagram_mention'
        | 'instagram_story_mention'
        | 'instagram_dm_keyword'
        | 'instagram_follow'
        | 'facebook_reaction'
        | 'whatsapp_join'
        | 'link_visit'
        | 'link_sign_up'
        | 'instagram_like'
        | 'facebook_page_like'
        | 'x_follow'
        | 'x_repost';
      tenant_status: 'active' | 'suspended' | 'closed';
    };
    CompositeTypes: {
      [_ in never]: never;
    };
  };
};

type DatabaseWithoutInternals = Omit<Database, '__InternalSupabase'>;

type DefaultSchema = DatabaseWithoutInternals[Extract<keyof Database, 'public'>];

export type Tables<
  DefaultSchemaTableNameOrOptions extends
    | keyof (DefaultSchema['Tables'] & DefaultSchema['Views'])
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof (DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions['schema']]['Tables'] &
        DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions['schema']]['Views'])
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? (DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions['schema']]['Tables'] &
      DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions['schema']]['Views'])[TableName] extends {
      Row: infer R;
    }
    ? R
    : never
  : DefaultSchemaTableNameOrOptions extends keyof (DefaultSchema['Tables'] & DefaultSchema['Views'])
    ? (DefaultSchema['Tables'] & DefaultSchema['Views'])[DefaultSchemaTableNameOrOptions] extends {
        Row: infer R;
      }
      ? R
      : never
    : never;

export type TablesInsert<
  DefaultSchemaTableNameOrOptions extends
    | keyof DefaultSchema['Tables']
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions['schema']]['Tables']
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions['schema']]['Tables'][TableName] extends {
      Insert: infer I;
    }
    ? I
    : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema['Tables']
    ? DefaultSchema['Tables'][DefaultSchemaTableNameOrOptions] extends {
        Insert: infer I;
      }
      ? I
      : never
    : never;

export type TablesUpdate<
  DefaultSchemaTableNameOrOptions extends
    | keyof DefaultSchema['Tables']
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions['schema']]['Tables']
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions['schema']]['Tables'][TableName] extends {
      Update: infer U;
    }
    ? U
    : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema['Tables']
    ? DefaultSchema['Tables'][DefaultSchemaTableNameOrOptions] extends {
        Update: infer U;
      }
      ? U
      : never
    : never;

export type Enums<
  DefaultSchemaEnumNameOrOptions extends
    | keyof DefaultSchema['Enums']
    | { schema: keyof DatabaseWithoutInternals },
  EnumName extends DefaultSchemaEnumNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions['schema']]['Enums']
    : never = never,
> = DefaultSchemaEnumNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions['schema']]['Enums'][EnumName]
  : DefaultSchemaEnumNameOrOptions extends keyof DefaultSchema['Enums']
    ? DefaultSchema['Enums'][DefaultSchemaEnumNameOrOptions]
    : never;

export type CompositeTypes<
  PublicCompositeTypeNameOrOptions extends
    | keyof DefaultSchema['CompositeTypes']
    | { schema: keyof DatabaseWithoutInternals },
  CompositeTypeName extends PublicCompositeTypeNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  }
    ? keyof DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions['schema']]['CompositeTypes']
    : never = never,
> = PublicCompositeTypeNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions['schema']]['CompositeTypes'][CompositeTypeName]
  : PublicCompositeTypeNameOrOptions extends keyof DefaultSchema['CompositeTypes']
    ? DefaultSchema['CompositeTypes'][PublicCompositeTypeNameOrOptions]
    : never;

export const Constants = {
  jobs: {
    Enums: {
      kind: ['edge', 'sql', 'raw'],
      misfire: ['skip', 'once', 'all'],
      run_status: ['running', 'success', 'warning', 'error'],
      scope: ['tenant', 'platform'],
    },
  },
  public: {
    Enums: {
      campaign_status: ['draft', 'active', 'ended'],
      completion_status: ['pending', 'verified', 'failed', 'manual_review', 'needs_user_action'],
      credential_health: ['unchecked', 'healthy', 'broken'],
      member_role: ['viewer', 'member', 'admin', 'owner'],
      message_kind: ['congratulation', 'reminder', 'welcome', 'review_result', 'alert'],
      message_status: ['queued', 'sent', 'unknown', 'failed', 'disabled', 'no_consent', 'cancelled'],
      provider: ['meta', 'whatsapp', 'stripe', 'email'],
      task_kind: [
        'instagram_comment',
        'facebook_comment',
        'instagram_photo_tag',
        'instagram_mention',
        'instagram_story_mention',
        'instagram_dm_keyword',
        'instagram_follow',
        'facebook_reaction',
        'whatsapp_join',
        'link_visit',
        'link_sign_up',
        'instagram_like',
        'facebook_page_like',
        'x_follow',
        'x_repost',
      ],
      tenant_status: ['active', 'suspended', 'closed'],
    },
  },
} as const;
