/* Made by `npm run types` from the service's OpenAPI document; not by hand. */
export interface paths {
    "/": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Page
         * @description Return the web page.
         */
        get: operations["get_page__get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/docs": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Docs
         * @description Return the contract as a page that loads nothing from elsewhere.
         */
        get: operations["docs_docs_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/healthz": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Healthz
         * @description Say that the process is up.
         */
        get: operations["healthz_healthz_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/metrics": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Metrics
         * @description Return all metrics, as text or as OpenMetrics.
         */
        get: operations["get_metrics_metrics_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/openapi.json": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Openapi Json
         * @description Return the OpenAPI document.
         */
        get: operations["openapi_json_openapi_json_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/readyz": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Readyz
         * @description Say whether store and keeper answer, and what is degraded.
         */
        get: operations["readyz_readyz_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/commands": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Commands
         * @description List commands, newest first.
         */
        get: operations["list_commands_v1_commands_get"];
        put?: never;
        /**
         * Submit
         * @description Submit a script: as a field of JSON, or as the body itself.
         */
        post: operations["submit_v1_commands_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/commands/{command_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Command
         * @description Return one command, perhaps once it is finished.
         */
        get: operations["get_command_v1_commands__command_id__get"];
        put?: never;
        post?: never;
        /**
         * Delete Command
         * @description Delete a finished command and its output.
         */
        delete: operations["delete_command_v1_commands__command_id__delete"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/commands/{command_id}/events": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Events
         * @description Stream a command's status, output and end, live and from any position.
         */
        get: operations["get_events_v1_commands__command_id__events_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/commands/{command_id}/output": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Output
         * @description Return output as raw bytes.
         */
        get: operations["get_output_v1_commands__command_id__output_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/commands/{command_id}/rerun": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Rerun Command
         * @description Submit the same again.
         */
        post: operations["rerun_command_v1_commands__command_id__rerun_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/commands/{command_id}/stop": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Stop Command
         * @description Stop a command: signal, grace, SIGKILL of its whole tree.
         */
        post: operations["stop_command_v1_commands__command_id__stop_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/hosts": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Hosts
         * @description List hosts.
         */
        get: operations["list_hosts_v1_hosts_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/session": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Get Session
         * @description Say who is signed in.
         */
        get: operations["get_session_v1_session_get"];
        put?: never;
        /**
         * Sign In
         * @description Begin a session: show a token or the code of a sign-in link, get a cookie.
         */
        post: operations["sign_in_v1_session_post"];
        /**
         * Sign Out
         * @description End the session, for every copy of its cookie.
         */
        delete: operations["sign_out_v1_session_delete"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /**
         * Command
         * @description One run of one script.
         */
        Command: {
            /** Args */
            args: string[];
            /**
             * Created At
             * Format: date-time
             */
            created_at: string;
            /** Created By */
            created_by: string;
            /** Env */
            env: {
                [key: string]: string;
            };
            /** Exit Code */
            exit_code: number | null;
            /**
             * Exited At
             * Format: date-time
             */
            exited_at: string | null;
            /**
             * Finished At
             * Format: date-time
             */
            finished_at: string | null;
            /** Grace Seconds */
            grace_seconds: number;
            /** Host */
            host: string | null;
            /**
             * Id
             * Format: uuid
             */
            id: string;
            /** Interactive */
            interactive: boolean;
            /** Interpreter */
            interpreter: string[];
            /** Labels */
            labels: {
                [key: string]: string;
            };
            /** Leftover Seconds */
            leftover_seconds: number;
            /** Leftovers Killed */
            leftovers_killed: number;
            /** Name */
            name: string | null;
            /**
             * On Output Limit
             * @enum {string}
             */
            on_output_limit: "discard" | "stop";
            output: components["schemas"]["Output"];
            /** Output Limit Bytes */
            output_limit_bytes: number | null;
            /** Priority */
            priority: number;
            pty: components["schemas"]["Pty"] | null;
            /** Queue Timeout Seconds */
            queue_timeout_seconds: number | null;
            /** Reason */
            reason: string | null;
            /** Rerun Of */
            rerun_of: string | null;
            /** Script */
            script: string;
            /** Signal */
            signal: string | null;
            /**
             * Started At
             * Format: date-time
             */
            started_at: string | null;
            status: components["schemas"]["Status"];
            /** Stdin Bytes */
            stdin_bytes: number;
            /** Timeout Seconds */
            timeout_seconds: number | null;
            usage: components["schemas"]["Usage"];
            /** Working Directory */
            working_directory: string | null;
        };
        /**
         * CommandEvent
         * @description Data of a ``status`` or ``end`` event: the command without its script.
         */
        CommandEvent: {
            /** Args */
            args: string[];
            /**
             * Created At
             * Format: date-time
             */
            created_at: string;
            /** Created By */
            created_by: string;
            /** Env */
            env: {
                [key: string]: string;
            };
            /** Exit Code */
            exit_code: number | null;
            /**
             * Exited At
             * Format: date-time
             */
            exited_at: string | null;
            /**
             * Finished At
             * Format: date-time
             */
            finished_at: string | null;
            /** Grace Seconds */
            grace_seconds: number;
            /** Host */
            host: string | null;
            /**
             * Id
             * Format: uuid
             */
            id: string;
            /** Interactive */
            interactive: boolean;
            /** Interpreter */
            interpreter: string[];
            /** Labels */
            labels: {
                [key: string]: string;
            };
            /** Leftover Seconds */
            leftover_seconds: number;
            /** Leftovers Killed */
            leftovers_killed: number;
            /** Name */
            name: string | null;
            /**
             * On Output Limit
             * @enum {string}
             */
            on_output_limit: "discard" | "stop";
            output: components["schemas"]["Output"];
            /** Output Limit Bytes */
            output_limit_bytes: number | null;
            /** Priority */
            priority: number;
            pty: components["schemas"]["Pty"] | null;
            /** Queue Timeout Seconds */
            queue_timeout_seconds: number | null;
            /** Reason */
            reason: string | null;
            /** Rerun Of */
            rerun_of: string | null;
            /** Signal */
            signal: string | null;
            /**
             * Started At
             * Format: date-time
             */
            started_at: string | null;
            status: components["schemas"]["Status"];
            /** Stdin Bytes */
            stdin_bytes: number;
            /** Timeout Seconds */
            timeout_seconds: number | null;
            usage: components["schemas"]["Usage"];
            /** Working Directory */
            working_directory: string | null;
        };
        /**
         * CommandItem
         * @description A command in a list: without args and env.
         */
        CommandItem: {
            /**
             * Created At
             * Format: date-time
             */
            created_at: string;
            /** Created By */
            created_by: string;
            /** Exit Code */
            exit_code: number | null;
            /**
             * Exited At
             * Format: date-time
             */
            exited_at: string | null;
            /**
             * Finished At
             * Format: date-time
             */
            finished_at: string | null;
            /** Grace Seconds */
            grace_seconds: number;
            /** Host */
            host: string | null;
            /**
             * Id
             * Format: uuid
             */
            id: string;
            /** Interactive */
            interactive: boolean;
            /** Interpreter */
            interpreter: string[];
            /** Labels */
            labels: {
                [key: string]: string;
            };
            /** Leftover Seconds */
            leftover_seconds: number;
            /** Leftovers Killed */
            leftovers_killed: number;
            /** Name */
            name: string | null;
            /**
             * On Output Limit
             * @enum {string}
             */
            on_output_limit: "discard" | "stop";
            output: components["schemas"]["Output"];
            /** Output Limit Bytes */
            output_limit_bytes: number | null;
            /** Priority */
            priority: number;
            pty: components["schemas"]["Pty"] | null;
            /** Queue Timeout Seconds */
            queue_timeout_seconds: number | null;
            /** Reason */
            reason: string | null;
            /** Rerun Of */
            rerun_of: string | null;
            /**
             * Script Preview
             * @description the first 200 characters of the script
             */
            script_preview: string;
            /** Signal */
            signal: string | null;
            /**
             * Started At
             * Format: date-time
             */
            started_at: string | null;
            status: components["schemas"]["Status"];
            /** Stdin Bytes */
            stdin_bytes: number;
            /** Timeout Seconds */
            timeout_seconds: number | null;
            usage: components["schemas"]["Usage"];
            /** Working Directory */
            working_directory: string | null;
        };
        /**
         * CommandPage
         * @description One page of a list.
         */
        CommandPage: {
            /** Items */
            items: components["schemas"]["CommandItem"][];
            /** Next Cursor */
            next_cursor: string | null;
        };
        /**
         * FieldProblem
         * @description An error in one field.
         */
        FieldProblem: {
            /** Field */
            field: string;
            /** Message */
            message: string;
        };
        /**
         * Health
         * @description The process is up.
         */
        Health: {
            /**
             * Status
             * @constant
             */
            status: "ok";
        };
        /**
         * Host
         * @description A machine that runs commands.
         */
        Host: {
            /** Capacity */
            capacity: number | null;
            /** Child Pid */
            child_pid: number | null;
            /** Keeper Pid */
            keeper_pid: number | null;
            /** Labels */
            labels: {
                [key: string]: string;
            };
            /**
             * Last Seen At
             * Format: date-time
             */
            last_seen_at: string;
            /** Name */
            name: string;
            /** Pool */
            pool: string;
            /** Running */
            running: number;
            /**
             * Status
             * @enum {string}
             */
            status: "up" | "silent" | "draining";
            /** Version */
            version: string;
        };
        /**
         * HostList
         * @description All hosts.
         */
        HostList: {
            /** Items */
            items: components["schemas"]["Host"][];
        };
        /**
         * Output
         * @description How much a command has printed.
         */
        Output: {
            /** Bytes */
            bytes: number;
            /**
             * Discarded Bytes
             * @description beyond output_limit_bytes
             */
            discarded_bytes: number;
            /** Stderr Bytes */
            stderr_bytes: number;
            /** Stdout Bytes */
            stdout_bytes: number;
        };
        /**
         * OutputEvent
         * @description Data of an ``output`` event: one stream, one contiguous range of positions.
         */
        OutputEvent: {
            /**
             * Base64
             * @description the bytes, where they are not
             * @default null
             */
            base64?: string | null;
            /**
             * Position
             * @description of its first byte in the merged output
             */
            position: number;
            /**
             * Stream
             * @enum {string}
             */
            stream: "stdout" | "stderr";
            /**
             * Stream Offset
             * @description of its first byte in its stream
             */
            stream_offset: number;
            /**
             * Text
             * @description the bytes, where they are UTF-8
             * @default null
             */
            text?: string | null;
            /**
             * Time
             * Format: date-time
             */
            time: string;
        };
        /**
         * Problem
         * @description An error (RFC 9457).
         */
        Problem: {
            /**
             * @description for already-finished
             * @default null
             */
            command?: components["schemas"]["Command"] | null;
            /** Detail */
            detail: string;
            /**
             * Errors
             * @description for 422
             * @default null
             */
            errors?: components["schemas"]["FieldProblem"][] | null;
            /** Instance */
            instance: string;
            /** Status */
            status: number;
            /** Title */
            title: string;
            /** Type */
            type: string;
        };
        /**
         * Pty
         * @description Size of a terminal.
         */
        Pty: {
            /** Cols */
            cols: number;
            /** Rows */
            rows: number;
        };
        /**
         * Readiness
         * @description The service can do its work.
         */
        Readiness: {
            /** Degraded */
            degraded: string[];
            /**
             * Keeper
             * @constant
             */
            keeper: "ok";
            /**
             * Spawn
             * @enum {string}
             */
            spawn: "clone" | "launcher" | "fork";
            /**
             * Status
             * @constant
             */
            status: "ready";
            /**
             * Store
             * @constant
             */
            store: "ok";
            /**
             * Tree Kill
             * @enum {string}
             */
            tree_kill: "cgroup" | "walk";
            /** Unkillable */
            unkillable: components["schemas"]["UnkillableProcess"][];
        };
        /**
         * Session
         * @description Who is signed in to the page.
         */
        Session: {
            /**
             * Csrf Token
             * @description goes into X-CSRF-Token where something changes
             */
            csrf_token: string;
            /**
             * Name
             * @description of the token
             */
            name: string;
            /**
             * Scope
             * @enum {string}
             */
            scope: "read" | "run" | "admin";
        };
        /**
         * SignIn
         * @description A sign-in: either a token, or the code of a sign-in link.
         */
        SignInBody: {
            /**
             * Code
             * @description what stands behind #code= in the link that serve prints
             * @default null
             */
            code?: string;
            /**
             * Token
             * @description as in Authorization
             * @default null
             */
            token?: string;
        };
        /**
         * Status
         * @description The status of a command; the last five are final.
         * @enum {string}
         */
        Status: "queued" | "running" | "stopping" | "succeeded" | "failed" | "stopped" | "timed_out" | "lost";
        /**
         * Stop
         * @description How to stop a command.
         */
        StopBody: {
            /**
             * Grace Seconds
             * @description from the signal to SIGKILL of the tree; null: the command's own
             * @default null
             */
            grace_seconds?: number | null;
            /**
             * Signal
             * @description a name such as SIGTERM or TERM
             * @default SIGTERM
             */
            signal?: string;
        };
        /**
         * Submit
         * @description A script and how to run it.
         * @example {
         *       "labels": {
         *         "team": "db"
         *       },
         *       "script": "echo hello"
         *     }
         */
        SubmitBody: {
            /**
             * Args
             * @description the script's $1 and on
             * @default []
             */
            args?: string[];
            /**
             * Env
             * @description added to the clean environment
             * @default {}
             */
            env?: {
                [key: string]: string;
            };
            /**
             * Grace Seconds
             * @description from a stop's signal to SIGKILL
             * @default 10
             */
            grace_seconds?: number;
            /**
             * Host
             * @description name of the host it must run on
             * @default null
             */
            host?: string | null;
            /**
             * Interpreter
             * @description program and arguments; else as the script's #! says, else bash
             * @default null
             */
            interpreter?: string[] | null;
            /**
             * Labels
             * @description for finding it again
             * @default {}
             */
            labels?: {
                [key: string]: string;
            };
            /**
             * Leftover Seconds
             * @description what background children get after the script's end
             * @default 2
             */
            leftover_seconds?: number;
            /**
             * Name
             * @description for people
             * @default null
             */
            name?: string | null;
            /**
             * On Output Limit
             * @description discard: keep the first bytes and count the rest
             * @default discard
             * @enum {string}
             */
            on_output_limit?: "discard" | "stop";
            /**
             * Output Limit Bytes
             * @description of both streams together; null: no limit; by default a setting, 10 GiB
             */
            output_limit_bytes?: number | null;
            /**
             * Priority
             * @description higher starts first
             * @default 0
             */
            priority?: number;
            /**
             * Queue Timeout Seconds
             * @description how long it may wait
             * @default null
             */
            queue_timeout_seconds?: number | null;
            /**
             * Script
             * @description the text that the interpreter runs; 1 byte to 1 MiB of UTF-8
             */
            script: string;
            /**
             * Stdin
             * @description text for standard input, at most 1 MiB; null: /dev/null
             * @default null
             */
            stdin?: string | null;
            /**
             * Timeout Seconds
             * @description from its start to a stop
             * @default null
             */
            timeout_seconds?: number | null;
            /**
             * Working Directory
             * @description a path, or private for an empty one; null: the shared one
             * @default null
             */
            working_directory?: string | null;
        };
        /**
         * UnkillableProcess
         * @description A process of a command that the keeper is not permitted to signal.
         */
        UnkillableProcess: {
            /**
             * Command
             * @description the command's id
             */
            command: string;
            /** Pid */
            pid: number;
            /** Uid */
            uid: number;
        };
        /**
         * Usage
         * @description The resources that a command has used; null until it exits.
         */
        Usage: {
            /** Max Rss Bytes */
            max_rss_bytes: number | null;
            /** System Seconds */
            system_seconds: number | null;
            /** User Seconds */
            user_seconds: number | null;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    get_page__get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description a page */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/html": string;
                };
            };
            /** @description the page has not changed */
            304: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description The request cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description This is not for you */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service does not have this name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The headers are too large */
            431: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service failed */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service cannot store or read now */
            503: {
                headers: {
                    "Retry-After"?: number;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    docs_docs_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description a page */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/html": string;
                };
            };
            /** @description The request cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description This is not for you */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service does not have this name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request says something that cannot be */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The headers are too large */
            431: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service failed */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service cannot store or read now */
            503: {
                headers: {
                    "Retry-After"?: number;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    healthz_healthz_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description up */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Health"];
                };
            };
            /** @description The request cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description This is not for you */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service does not have this name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request says something that cannot be */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The headers are too large */
            431: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service failed */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service cannot store or read now */
            503: {
                headers: {
                    "Retry-After"?: number;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_metrics_metrics_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description all metrics, for Prometheus */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/openmetrics-text": string;
                    "text/plain": string;
                };
            };
            /** @description The request cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is needed */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description This is not for you */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service does not have this name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request says something that cannot be */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The headers are too large */
            431: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service failed */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service cannot store or read now */
            503: {
                headers: {
                    "Retry-After"?: number;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    openapi_json_openapi_json_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description this document */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": Record<string, never>;
                };
            };
            /** @description The request cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description This is not for you */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service does not have this name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request says something that cannot be */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The headers are too large */
            431: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service failed */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service cannot store or read now */
            503: {
                headers: {
                    "Retry-After"?: number;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    readyz_readyz_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description ready */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Readiness"];
                };
            };
            /** @description The request cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description This is not for you */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service does not have this name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request says something that cannot be */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The headers are too large */
            431: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service failed */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service cannot store or read now */
            503: {
                headers: {
                    "Retry-After"?: number;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_commands_v1_commands_get: {
        parameters: {
            query?: {
                /** @description RFC 3339 */
                created_after?: string;
                /** @description RFC 3339 */
                created_before?: string;
                /** @description next_cursor of the page before */
                cursor?: string;
                /** @description name of the host */
                host?: string;
                /** @description beginning or end of the id, at least 8 characters of it */
                id?: string;
                /** @description key=value, all of them; repeats */
                label?: string[];
                /** @description commands a page */
                limit?: number;
                /** @description substring of name or script, ASCII case ignored */
                q?: string;
                /** @description any of these; repeats */
                status?: ("queued" | "running" | "stopping" | "succeeded" | "failed" | "stopped" | "timed_out" | "lost")[];
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description one page */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["CommandPage"];
                };
            };
            /** @description The request cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is needed */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description This is not for you */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service does not have this name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request says something that cannot be */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The headers are too large */
            431: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service failed */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service cannot store or read now */
            503: {
                headers: {
                    "Retry-After"?: number;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    submit_v1_commands_post: {
        parameters: {
            query?: {
                /** @description the script's $1 and on (with a script as the body) */
                arg?: string[];
                /** @description added to the clean environment: key=value; repeats (with a script as the body) */
                env?: string[];
                /** @description from a stop's signal to SIGKILL (with a script as the body) */
                grace_seconds?: number;
                /** @description name of the host it must run on (with a script as the body) */
                host?: string;
                /** @description program and arguments; else as the script's #! says, else bash (with a script as the body) */
                interpreter?: string[];
                /** @description for finding it again: key=value; repeats (with a script as the body) */
                label?: string[];
                /** @description what background children get after the script's end (with a script as the body) */
                leftover_seconds?: number;
                /** @description for people (with a script as the body) */
                name?: string;
                /** @description discard: keep the first bytes and count the rest (with a script as the body) */
                on_output_limit?: "discard" | "stop";
                /** @description of both streams together; null: no limit; by default a setting, 10 GiB (with a script as the body) */
                output_limit_bytes?: number | "null";
                /** @description higher starts first (with a script as the body) */
                priority?: number;
                /** @description how long it may wait (with a script as the body) */
                queue_timeout_seconds?: number;
                /** @description text for standard input, at most 1 MiB; null: /dev/null (with a script as the body) */
                stdin?: string;
                /** @description from its start to a stop (with a script as the body) */
                timeout_seconds?: number;
                /** @description seconds to wait for the end, at most 60 */
                wait?: number;
                /** @description a path, or private for an empty one; null: the shared one (with a script as the body) */
                working_directory?: string;
            };
            header?: {
                /** @description names the request: sent again within a day it makes nothing new */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["SubmitBody"];
                "text/plain": string;
                "text/x-shellscript": string;
            };
        };
        responses: {
            /** @description the command */
            201: {
                headers: {
                    /** @description true where an earlier request with this key made it */
                    "Idempotent-Replayed"?: "true";
                    /** @description the command */
                    Location?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Command"];
                };
            };
            /** @description The request cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is needed */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description This is not for you */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description What this request made has been deleted */
            410: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is too large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description This kind of content is not taken */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service does not have this name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request says something that cannot be */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The headers are too large */
            431: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service failed */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service cannot store or read now */
            503: {
                headers: {
                    "Retry-After"?: number;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The disk is full */
            507: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_command_v1_commands__command_id__get: {
        parameters: {
            query?: {
                /** @description seconds to wait for the end, at most 60 */
                wait?: number;
            };
            header?: never;
            path: {
                command_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the command */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Command"];
                };
            };
            /** @description The request cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is needed */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description This is not for you */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description There is nothing here */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service does not have this name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request says something that cannot be */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The headers are too large */
            431: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service failed */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service cannot store or read now */
            503: {
                headers: {
                    "Retry-After"?: number;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    delete_command_v1_commands__command_id__delete: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                command_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description deleted */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description The request cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is needed */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description This is not for you */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description There is nothing here */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The command has not ended */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service does not have this name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request says something that cannot be */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The headers are too large */
            431: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service failed */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service cannot store or read now */
            503: {
                headers: {
                    "Retry-After"?: number;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The disk is full */
            507: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_events_v1_commands__command_id__events_get: {
        parameters: {
            query?: {
                /** @description position in the merged output; Last-Event-ID has precedence */
                after?: number;
            };
            header?: {
                /** @description id of the last event of a broken stream: go on behind it */
                "Last-Event-ID"?: string;
            };
            path: {
                command_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Server-Sent Events: status, output, end */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "text/event-stream": unknown;
                };
            };
            /** @description The request cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is needed */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description This is not for you */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description There is nothing here */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service does not have this name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request says something that cannot be */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The headers are too large */
            431: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service failed */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service cannot store or read now */
            503: {
                headers: {
                    "Retry-After"?: number;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_output_v1_commands__command_id__output_get: {
        parameters: {
            query?: {
                /** @description wait for more until it is finished */
                follow?: boolean;
                /** @description bytes */
                limit?: number;
                /** @description bytes */
                offset?: number;
                stream?: "stdout" | "stderr" | "merged";
                /** @description N: the last N bytes; Nl: the last N lines */
                tail?: string;
            };
            header?: {
                /** @description bytes=FIRST-LAST, of a finished command */
                Range?: string;
            };
            path: {
                command_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description bytes */
            200: {
                headers: {
                    "Output-Complete"?: "true" | "false";
                    /** @description of the first byte sent */
                    "Output-Offset"?: number;
                    /** @description bytes known when it began */
                    "Output-Size"?: number;
                    [name: string]: unknown;
                };
                content: {
                    "application/octet-stream": string;
                    "text/plain; charset=utf-8": string;
                };
            };
            /** @description a range */
            206: {
                headers: {
                    /** @description of the answer, and its size */
                    "Content-Range"?: string;
                    "Output-Complete"?: "true" | "false";
                    /** @description of the first byte sent */
                    "Output-Offset"?: number;
                    /** @description bytes known when it began */
                    "Output-Size"?: number;
                    [name: string]: unknown;
                };
                content: {
                    "application/octet-stream": string;
                    "text/plain; charset=utf-8": string;
                };
            };
            /** @description The request cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is needed */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description This is not for you */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description There is nothing here */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The range lies outside the output */
            416: {
                headers: {
                    /** @description of the answer, and its size */
                    "Content-Range"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service does not have this name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request says something that cannot be */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The headers are too large */
            431: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service failed */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service cannot store or read now */
            503: {
                headers: {
                    "Retry-After"?: number;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    rerun_command_v1_commands__command_id__rerun_post: {
        parameters: {
            query?: {
                /** @description seconds to wait for the end, at most 60 */
                wait?: number;
            };
            header?: {
                /** @description names the request: sent again within a day it makes nothing new */
                "Idempotency-Key"?: string;
            };
            path: {
                command_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description the command */
            201: {
                headers: {
                    /** @description true where an earlier request with this key made it */
                    "Idempotent-Replayed"?: "true";
                    /** @description the command */
                    Location?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Command"];
                };
            };
            /** @description The request cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is needed */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description This is not for you */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description There is nothing here */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description What this request made has been deleted */
            410: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is too large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service does not have this name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request says something that cannot be */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The headers are too large */
            431: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service failed */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service cannot store or read now */
            503: {
                headers: {
                    "Retry-After"?: number;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The disk is full */
            507: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    stop_command_v1_commands__command_id__stop_post: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                command_id: string;
            };
            cookie?: never;
        };
        requestBody?: {
            content: {
                "application/json": components["schemas"]["StopBody"];
            };
        };
        responses: {
            /** @description the command */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Command"];
                };
            };
            /** @description The request cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is needed */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description This is not for you */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description There is nothing here */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The command has ended */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is too large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description This kind of content is not taken */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service does not have this name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request says something that cannot be */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The headers are too large */
            431: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service failed */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service cannot store or read now */
            503: {
                headers: {
                    "Retry-After"?: number;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The disk is full */
            507: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_hosts_v1_hosts_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description all hosts */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["HostList"];
                };
            };
            /** @description The request cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is needed */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description This is not for you */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service does not have this name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request says something that cannot be */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The headers are too large */
            431: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service failed */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service cannot store or read now */
            503: {
                headers: {
                    "Retry-After"?: number;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    get_session_v1_session_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description who is signed in */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Session"];
                };
            };
            /** @description The request cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is needed */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description This is not for you */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service does not have this name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request says something that cannot be */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The headers are too large */
            431: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service failed */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service cannot store or read now */
            503: {
                headers: {
                    "Retry-After"?: number;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    sign_in_v1_session_post: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["SignInBody"];
            };
        };
        responses: {
            /** @description who is signed in */
            200: {
                headers: {
                    "Set-Cookie"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Session"];
                };
            };
            /** @description The request cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is needed */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description This is not for you */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is too large */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description This kind of content is not taken */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service does not have this name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request says something that cannot be */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description There were too many requests */
            429: {
                headers: {
                    "Retry-After"?: number;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The headers are too large */
            431: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service failed */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service cannot store or read now */
            503: {
                headers: {
                    "Retry-After"?: number;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The disk is full */
            507: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    sign_out_v1_session_delete: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description ended */
            204: {
                headers: {
                    "Set-Cookie"?: string;
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description The request cannot be read */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is needed */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description This is not for you */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service does not have this name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request says something that cannot be */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The headers are too large */
            431: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service failed */
            500: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The service cannot store or read now */
            503: {
                headers: {
                    "Retry-After"?: number;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The disk is full */
            507: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
}
