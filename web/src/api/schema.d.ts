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
         * Get the web page
         * @description Returns the web page, which uses this API.
         */
        get: operations["getPage"];
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
         * Get this reference
         * @description Returns the web page that shows this document. It loads nothing from other hosts.
         */
        get: operations["getDocs"];
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
         * Is the service up?
         * @description Answers as soon as the server's process accepts requests.
         */
        get: operations["getHealth"];
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
         * Get metrics
         * @description Returns all metrics as text, for Prometheus.
         */
        get: operations["getMetrics"];
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
         * Get this document
         * @description Returns the description of the API as OpenAPI 3.1.
         */
        get: operations["getOpenapi"];
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
         * Is the service ready?
         * @description Answers 200 if the database and the keeper answer, else 503 with the reason. The answer also tells how process trees are killed, which limits a command may have, and what does not work fully (`degraded`).
         */
        get: operations["getReadiness"];
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
         * List commands
         * @description Returns commands, newest first. Every filter must match. If `next_cursor` is not null, there may be more commands: repeat the request with the same filters, and send the value of `next_cursor` as `cursor`. A page may have fewer items than `limit`, or none, and still have a `next_cursor`.
         */
        get: operations["listCommands"];
        put?: never;
        /**
         * Submit a script
         * @description Stores a script as a command and runs it as soon as possible. The answer comes once the command is on disk; with `wait`, once the command is finished or the time is over.
         *
         *     The body is JSON:
         *
         *     ```
         *     curl -H 'Authorization: Bearer TOKEN' --json '{"script": "echo hello"}' \
         *       'http://localhost:8000/v1/commands'
         *     ```
         *
         *     Or the body is the script itself, as `text/plain` or `text/x-shellscript`. The other fields are then query parameters. With a JSON body, such parameters are refused.
         *
         *     ```
         *     curl -H 'Authorization: Bearer TOKEN' -H 'Content-Type: text/plain' \
         *       --data-binary @job.sh 'http://localhost:8000/v1/commands?name=job&label=team=db'
         *     ```
         *
         *     With an `Idempotency-Key`, a request that is sent again creates no second command.
         */
        post: operations["submitCommand"];
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
         * Get a command
         * @description Returns one command. With `wait`, the answer comes once the command is finished or the time is over, whichever comes first.
         */
        get: operations["getCommand"];
        put?: never;
        post?: never;
        /**
         * Delete a command
         * @description Deletes a finished command and its output.
         */
        delete: operations["deleteCommand"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/commands/{command_id}/attach": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Attach to a command
         * @description Opens a WebSocket to an interactive command. Binary frames are input from the client and output to the client; text frames are JSON. The client sends `{"resize": {"rows": 24, "cols": 80}}` and `{"signal": "SIGINT"}`. The service sends `{"start": {"position": 0, "stdin_offset": 0, "status": "running"}}` first, `{"error": problem}` after a text that it does not understand, and `{"end": command}` last. A client whose connection broke continues without a gap: its position is that of `start` plus the bytes that it received, and it sends this position as `after`. With a session, the request needs an `Origin` header that is equal to `Host`.
         */
        get: operations["attachToCommand"];
        put?: never;
        post?: never;
        delete?: never;
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
         * Follow a command
         * @description Streams Server-Sent Events: `status` first and at each change, `output` for one range of one stream, and `end` with the finished command. An event's `id` is the position in the merged output after the event. If the connection breaks, a client continues without a gap: it sends the last `id` as `Last-Event-ID`.
         */
        get: operations["followEvents"];
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
         * Get the output
         * @description Returns output byte for byte: all of it, or a part. With `follow`, the answer continues until the command is finished. A client that asks for `text/plain` gets the same bytes with that type. `tail` cannot be combined with `offset` or `limit`. A `Range` header applies only to a finished command.
         */
        get: operations["getOutput"];
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
         * Run a command again
         * @description Submits every field of a command again, including its standard input. The new command has the id of the old one in `rerun_of`.
         */
        post: operations["rerunCommand"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/commands/{command_id}/signal": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Send a signal
         * @description Sends a signal to the process group of a running script, and does nothing else: if the signal ends the script, the command has failed. To stop a command and all its processes, use `stop`.
         */
        post: operations["signalCommand"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/v1/commands/{command_id}/stdin": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Send input to a command
         * @description Gives bytes to a running command that was submitted with `interactive` or `pty`: all of them or, with another answer than 202, none. The answer does not wait until the script reads them. At most 1 MiB waits for the script.
         *
         *     To send again safely after a lost answer, give the `offset` of the last answer (0 at the beginning): if the bytes were accepted, the answer is 409 with the present `offset`. With `close`, the input ends after these bytes, of which there may be none; a terminal gets Ctrl-D.
         */
        post: operations["sendInput"];
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
         * Stop a command
         * @description Sends a signal to the script, waits for the grace period, then kills every process of the command. The body is optional. The answer does not wait for the end. If the command is being stopped already, only a shorter grace period has an effect.
         */
        post: operations["stopCommand"];
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
         * List hosts
         * @description Returns the machines that run commands, and how many commands each is running.
         */
        get: operations["listHosts"];
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
         * Who is signed in?
         * @description Returns the session to which the request's cookie belongs.
         */
        get: operations["getSession"];
        put?: never;
        /**
         * Sign in
         * @description Begins a session with a token, or with the code of the sign-in link that `serve` prints. The answer sets a cookie. Requests that change something need the cookie and the header `X-CSRF-Token`.
         */
        post: operations["signIn"];
        /**
         * Sign out
         * @description Ends the session, for every copy of its cookie.
         */
        delete: operations["signOut"];
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
         * AcceptedInput
         * @description Input that was given to the keeper.
         */
        AcceptedInput: {
            /**
             * Accepted Bytes
             * @description size of this input
             */
            accepted_bytes: number;
            /**
             * Offset
             * @description bytes accepted so far, with these; goes into offset
             */
            offset: number;
        };
        /**
         * Command
         * @description One run of one script.
         */
        Command: {
            /** Args */
            args: string[];
            concurrency: components["schemas"]["Concurrency"] | null;
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
            /** Exited At */
            exited_at: string | null;
            /** Finished At */
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
            limits: components["schemas"]["Limits"] | null;
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
            /** Started At */
            started_at: string | null;
            status: components["schemas"]["Status"];
            /** Stdin Bytes */
            stdin_bytes: number;
            /** Timeout Seconds */
            timeout_seconds: number | null;
            usage: components["schemas"]["Usage"];
            /**
             * Waiting For
             * @description what a queued command waits for
             */
            waiting_for: ("capacity" | "concurrency" | "host") | null;
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
            concurrency: components["schemas"]["Concurrency"] | null;
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
            /** Exited At */
            exited_at: string | null;
            /** Finished At */
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
            limits: components["schemas"]["Limits"] | null;
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
            /** Started At */
            started_at: string | null;
            status: components["schemas"]["Status"];
            /** Stdin Bytes */
            stdin_bytes: number;
            /** Timeout Seconds */
            timeout_seconds: number | null;
            usage: components["schemas"]["Usage"];
            /**
             * Waiting For
             * @description what a queued command waits for
             */
            waiting_for: ("capacity" | "concurrency" | "host") | null;
            /** Working Directory */
            working_directory: string | null;
        };
        /**
         * CommandItem
         * @description A command in a list: without args and env.
         */
        CommandItem: {
            concurrency: components["schemas"]["Concurrency"] | null;
            /**
             * Created At
             * Format: date-time
             */
            created_at: string;
            /** Created By */
            created_by: string;
            /** Exit Code */
            exit_code: number | null;
            /** Exited At */
            exited_at: string | null;
            /** Finished At */
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
            limits: components["schemas"]["Limits"] | null;
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
            /** Started At */
            started_at: string | null;
            status: components["schemas"]["Status"];
            /** Stdin Bytes */
            stdin_bytes: number;
            /** Timeout Seconds */
            timeout_seconds: number | null;
            usage: components["schemas"]["Usage"];
            /**
             * Waiting For
             * @description what a queued command waits for
             */
            waiting_for: ("capacity" | "concurrency" | "host") | null;
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
         * Concurrency
         * @description The concurrency key of a command.
         */
        Concurrency: {
            /** Key */
            key: string;
            /** Limit */
            limit: number;
            /**
             * When Busy
             * @enum {string}
             */
            when_busy: "queue" | "reject" | "replace";
        };
        /**
         * SubmitConcurrency
         * @description A concurrency key: how many commands with this key may run at a time.
         */
        ConcurrencyBody: {
            /**
             * Key
             * @description commands with the same key count together
             */
            key: string;
            /**
             * Limit
             * @description how many of them may be dispatched, running or stopping at a time
             * @default 1
             */
            limit?: number;
            /**
             * When Busy
             * @description what to do if there are that many: wait; answer 409; or stop others and wait
             * @default queue
             * @enum {string}
             */
            when_busy?: "queue" | "reject" | "replace";
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
         * Limits
         * @description What the script may use; a limit that was not submitted is absent.
         */
        Limits: {
            /**
             * Cpu Seconds
             * @default null
             */
            cpu_seconds?: number | null;
            /**
             * Memory Bytes
             * @default null
             */
            memory_bytes?: number | null;
            /**
             * Nice
             * @default null
             */
            nice?: number | null;
            /**
             * Open Files
             * @default null
             */
            open_files?: number | null;
            /**
             * Processes
             * @default null
             */
            processes?: number | null;
        };
        /**
         * SubmitLimits
         * @description What a script may use; an absent limit is the service's own.
         */
        LimitsBody: {
            /**
             * Cpu Seconds
             * @description CPU time of each process; rounded up to whole seconds
             * @default null
             */
            cpu_seconds?: number | null;
            /**
             * Memory Bytes
             * @description memory of all processes together
             * @default null
             */
            memory_bytes?: number | null;
            /**
             * Nice
             * @description added to the nice value; 19 is the lowest priority
             * @default null
             */
            nice?: number | null;
            /**
             * Open Files
             * @description file descriptors of each process
             * @default null
             */
            open_files?: number | null;
            /**
             * Processes
             * @description processes and threads of the whole process tree
             * @default null
             */
            processes?: number | null;
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
             * @description bytes beyond output_limit_bytes
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
             * @description the bytes, if they are not UTF-8
             * @default null
             */
            base64?: string | null;
            /**
             * Position
             * @description of the first byte in the merged output
             */
            position: number;
            /**
             * Stream
             * @enum {string}
             */
            stream: "stdout" | "stderr";
            /**
             * Stream Offset
             * @description of the first byte in its stream
             */
            stream_offset: number;
            /**
             * Text
             * @description the bytes, if they are UTF-8
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
             * @description with already-finished
             * @default null
             */
            command?: components["schemas"]["Command"] | null;
            /** Detail */
            detail: string;
            /**
             * Errors
             * @description with status 422
             * @default null
             */
            errors?: components["schemas"]["FieldProblem"][] | null;
            /** Instance */
            instance: string;
            /**
             * Offset
             * @description with offset-mismatch: bytes accepted so far
             * @default null
             */
            offset?: number | null;
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
         * PtySize
         * @description Size of a terminal.
         */
        PtyBody: {
            /**
             * Cols
             * @description characters in a line
             */
            cols: number;
            /**
             * Rows
             * @description lines
             */
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
             * Limits
             * @description that a command may have on this host
             */
            limits: string[];
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
             * @description for X-CSRF-Token in requests that change something
             */
            csrf_token: string;
            /**
             * Name
             * @description name of the token
             */
            name: string;
            /**
             * Scope
             * @enum {string}
             */
            scope: "read" | "run" | "admin";
        };
        /**
         * Signal
         * @description Which signal to send.
         */
        SignalBody: {
            /**
             * Signal
             * @description a name such as SIGHUP or HUP
             */
            signal: string;
        };
        /**
         * SignIn
         * @description A sign-in: either a token, or the code of a sign-in link.
         */
        SignInBody: {
            /**
             * Code
             * @description the part after #code= of the link that serve prints
             */
            code?: string;
            /**
             * Token
             * @description as in Authorization
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
             * @description time from the signal to SIGKILL; null: the command's own
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
         */
        SubmitBody: {
            /**
             * Args
             * @description arguments of the script: $1, $2 and so on
             * @default []
             */
            args?: string[];
            /**
             * @description limits how many run at a time
             * @default null
             */
            concurrency?: components["schemas"]["ConcurrencyBody"] | null;
            /**
             * Env
             * @description variables to add to the clean environment
             * @default {}
             */
            env?: {
                [key: string]: string;
            };
            /**
             * Grace Seconds
             * @description time from a stop's signal to SIGKILL; 10 if absent, or the service's maximum
             */
            grace_seconds?: number;
            /**
             * Host
             * @description name of the host on which it must run
             * @default null
             */
            host?: string | null;
            /**
             * Interactive
             * @description takes input while it runs; stdin, if given, comes first
             * @default false
             */
            interactive?: boolean;
            /**
             * Interpreter
             * @description program and arguments; default: the script's #! line, or bash
             * @default null
             */
            interpreter?: string[] | null;
            /**
             * Labels
             * @description keys and values to find the command by
             * @default {}
             */
            labels?: {
                [key: string]: string;
            };
            /**
             * Leftover Seconds
             * @description time that background processes have after the script's end
             * @default 2
             */
            leftover_seconds?: number;
            /**
             * @description what the script may use
             * @default null
             */
            limits?: components["schemas"]["LimitsBody"] | null;
            /**
             * Name
             * @description display name
             * @default null
             */
            name?: string | null;
            /**
             * On Output Limit
             * @description discard: store the first bytes, count the rest; stop: stop the command
             * @default discard
             * @enum {string}
             */
            on_output_limit?: "discard" | "stop";
            /**
             * Output Limit Bytes
             * @description of both streams together; null: no limit; default: a setting, 10 GiB
             */
            output_limit_bytes?: number | null;
            /**
             * Priority
             * @description higher starts first
             * @default 0
             */
            priority?: number;
            /**
             * @description run it in a terminal of this size; implies interactive
             * @default null
             */
            pty?: components["schemas"]["PtyBody"] | null;
            /**
             * Queue Timeout Seconds
             * @description longest time before the start
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
             * @description time from the start until it is stopped
             * @default null
             */
            timeout_seconds?: number | null;
            /**
             * Working Directory
             * @description a path, or private for an empty directory; null: the shared one
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
    getPage: {
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
                    /** @example <!doctype html> */
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
            /** @description The request is malformed */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unknown host name */
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
            /** @description The database is unavailable */
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
    getDocs: {
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
                    /** @example <!doctype html> */
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
            /** @description The request is malformed */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unknown host name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is invalid */
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
            /** @description The database is unavailable */
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
    getHealth: {
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
                    /**
                     * @example {
                     *       "status": "ok"
                     *     }
                     */
                    "application/json": components["schemas"]["Health"];
                };
            };
            /** @description The request is malformed */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unknown host name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is invalid */
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
            /** @description The database is unavailable */
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
    getMetrics: {
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
                    /** @example scriptservice_commands_running 3.0 */
                    "text/plain": string;
                };
            };
            /** @description The request is malformed */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is required */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unknown host name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is invalid */
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
            /** @description The database is unavailable */
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
    getOpenapi: {
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
                    /**
                     * @example {
                     *       "openapi": "3.1.0"
                     *     }
                     */
                    "application/json": Record<string, never>;
                };
            };
            /** @description The request is malformed */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unknown host name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is invalid */
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
            /** @description The database is unavailable */
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
    getReadiness: {
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
                    /**
                     * @example {
                     *       "status": "ready",
                     *       "store": "ok",
                     *       "keeper": "ok",
                     *       "tree_kill": "cgroup",
                     *       "spawn": "launcher",
                     *       "degraded": [],
                     *       "unkillable": [],
                     *       "limits": [
                     *         "cpu_seconds",
                     *         "open_files",
                     *         "nice",
                     *         "memory_bytes",
                     *         "processes"
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["Readiness"];
                };
            };
            /** @description The request is malformed */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unknown host name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is invalid */
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
            /** @description The database is unavailable */
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
    listCommands: {
        parameters: {
            query?: {
                /** @description RFC 3339 */
                created_after?: string;
                /** @description RFC 3339 */
                created_before?: string;
                /** @description next_cursor of the previous page */
                cursor?: string;
                /** @description name of the host */
                host?: string;
                /** @description first or last characters of the id, at least 8 */
                id?: string;
                /** @description key=value; may be repeated, all must match */
                label?: string[];
                /** @description commands on a page */
                limit?: number;
                /** @description text in the name or script; the case of ASCII letters is ignored */
                q?: string;
                /** @description one of these statuses; may be repeated */
                status?: components["schemas"]["Status"][];
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
                    /**
                     * @example {
                     *       "items": [
                     *         {
                     *           "id": "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55",
                     *           "status": "succeeded",
                     *           "name": "greeting",
                     *           "labels": {
                     *             "team": "db"
                     *           },
                     *           "interpreter": [
                     *             "/bin/bash"
                     *           ],
                     *           "working_directory": null,
                     *           "stdin_bytes": 0,
                     *           "interactive": false,
                     *           "pty": null,
                     *           "timeout_seconds": 3600,
                     *           "queue_timeout_seconds": null,
                     *           "grace_seconds": 10,
                     *           "leftover_seconds": 2,
                     *           "output_limit_bytes": 10737418240,
                     *           "on_output_limit": "discard",
                     *           "limits": null,
                     *           "priority": 0,
                     *           "concurrency": null,
                     *           "waiting_for": null,
                     *           "host": "alpha",
                     *           "created_by": "admin",
                     *           "rerun_of": null,
                     *           "created_at": "2026-11-23T16:20:00.123456Z",
                     *           "started_at": "2026-11-23T16:20:00.131007Z",
                     *           "exited_at": "2026-11-23T16:20:00.134211Z",
                     *           "finished_at": "2026-11-23T16:20:00.134930Z",
                     *           "exit_code": 0,
                     *           "signal": null,
                     *           "reason": null,
                     *           "leftovers_killed": 0,
                     *           "output": {
                     *             "bytes": 13,
                     *             "stdout_bytes": 13,
                     *             "stderr_bytes": 0,
                     *             "discarded_bytes": 0
                     *           },
                     *           "usage": {
                     *             "user_seconds": 0.001,
                     *             "system_seconds": 0.002,
                     *             "max_rss_bytes": 3596288
                     *           },
                     *           "script_preview": "echo \"Hello, $1\"\n"
                     *         }
                     *       ],
                     *       "next_cursor": null
                     *     }
                     */
                    "application/json": components["schemas"]["CommandPage"];
                };
            };
            /** @description The request is malformed */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is required */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unknown host name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is invalid */
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
            /** @description The database is unavailable */
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
    submitCommand: {
        parameters: {
            query?: {
                /** @description arguments of the script: $1, $2 and so on (only with a script as the body) */
                arg?: string[];
                /** @description commands with the same key count together (only with a script as the body) */
                concurrency_key?: string;
                /** @description how many of them may be dispatched, running or stopping at a time; 1 if absent (only with a script as the body) */
                concurrency_limit?: number;
                /** @description variables to add to the clean environment: key=value; may be repeated (only with a script as the body) */
                env?: string[];
                /** @description time from a stop's signal to SIGKILL; 10 if absent, or the service's maximum (only with a script as the body) */
                grace_seconds?: number;
                /** @description name of the host on which it must run (only with a script as the body) */
                host?: string;
                /** @description takes input while it runs; stdin, if given, comes first (only with a script as the body) */
                interactive?: boolean;
                /** @description program and arguments; default: the script's #! line, or bash (only with a script as the body) */
                interpreter?: string[];
                /** @description keys and values to find the command by: key=value; may be repeated (only with a script as the body) */
                label?: string[];
                /** @description time that background processes have after the script's end; 2 if absent (only with a script as the body) */
                leftover_seconds?: number;
                /** @description what the script may use: a JSON object (only with a script as the body) */
                limits?: string;
                /** @description display name (only with a script as the body) */
                name?: string;
                /** @description discard: store the first bytes, count the rest; stop: stop the command; discard if absent (only with a script as the body) */
                on_output_limit?: "discard" | "stop";
                /** @description of both streams together; null: no limit; default: a setting, 10 GiB (only with a script as the body) */
                output_limit_bytes?: number | "null";
                /** @description higher starts first; 0 if absent (only with a script as the body) */
                priority?: number;
                /** @description run it in a terminal of this size; implies interactive: ROWSxCOLS, such as 24x80 (only with a script as the body) */
                pty?: string;
                /** @description longest time before the start (only with a script as the body) */
                queue_timeout_seconds?: number;
                /** @description text for standard input, at most 1 MiB; null: /dev/null (only with a script as the body) */
                stdin?: string;
                /** @description time from the start until it is stopped (only with a script as the body) */
                timeout_seconds?: number;
                /** @description seconds to wait for the command's end, at most 60 */
                wait?: number;
                /** @description what to do if there are that many: wait; answer 409; or stop others and wait; queue if absent (only with a script as the body) */
                when_busy?: "queue" | "reject" | "replace";
                /** @description a path, or private for an empty directory; null: the shared one (only with a script as the body) */
                working_directory?: string;
            };
            header?: {
                /** @description a repetition with the same key within a day creates no second command */
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
                    /** @description true if an earlier request created the command */
                    "Idempotent-Replayed"?: "true";
                    /** @description the command */
                    Location?: string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55",
                     *       "status": "queued",
                     *       "name": "greeting",
                     *       "labels": {
                     *         "team": "db"
                     *       },
                     *       "interpreter": [
                     *         "/bin/bash"
                     *       ],
                     *       "working_directory": null,
                     *       "stdin_bytes": 0,
                     *       "interactive": false,
                     *       "pty": null,
                     *       "timeout_seconds": 3600,
                     *       "queue_timeout_seconds": null,
                     *       "grace_seconds": 10,
                     *       "leftover_seconds": 2,
                     *       "output_limit_bytes": 10737418240,
                     *       "on_output_limit": "discard",
                     *       "limits": null,
                     *       "priority": 0,
                     *       "concurrency": null,
                     *       "waiting_for": null,
                     *       "host": null,
                     *       "created_by": "admin",
                     *       "rerun_of": null,
                     *       "created_at": "2026-11-23T16:20:00.123456Z",
                     *       "started_at": null,
                     *       "exited_at": null,
                     *       "finished_at": null,
                     *       "exit_code": null,
                     *       "signal": null,
                     *       "reason": null,
                     *       "leftovers_killed": 0,
                     *       "output": {
                     *         "bytes": 0,
                     *         "stdout_bytes": 0,
                     *         "stderr_bytes": 0,
                     *         "discarded_bytes": 0
                     *       },
                     *       "usage": {
                     *         "user_seconds": null,
                     *         "system_seconds": null,
                     *         "max_rss_bytes": null
                     *       },
                     *       "args": [
                     *         "world"
                     *       ],
                     *       "env": {
                     *         "LANG": "C.UTF-8"
                     *       },
                     *       "script": "echo \"Hello, $1\"\n"
                     *     }
                     */
                    "application/json": components["schemas"]["Command"];
                };
            };
            /** @description The request is malformed */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is required */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The concurrency key is busy */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The command created with this idempotency key was deleted */
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
            /** @description Unsupported content type */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unknown host name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is invalid */
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
            /** @description The database is unavailable */
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
    getCommand: {
        parameters: {
            query?: {
                /** @description seconds to wait for the command's end, at most 60 */
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
                    /**
                     * @example {
                     *       "id": "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55",
                     *       "status": "succeeded",
                     *       "name": "greeting",
                     *       "labels": {
                     *         "team": "db"
                     *       },
                     *       "interpreter": [
                     *         "/bin/bash"
                     *       ],
                     *       "working_directory": null,
                     *       "stdin_bytes": 0,
                     *       "interactive": false,
                     *       "pty": null,
                     *       "timeout_seconds": 3600,
                     *       "queue_timeout_seconds": null,
                     *       "grace_seconds": 10,
                     *       "leftover_seconds": 2,
                     *       "output_limit_bytes": 10737418240,
                     *       "on_output_limit": "discard",
                     *       "limits": null,
                     *       "priority": 0,
                     *       "concurrency": null,
                     *       "waiting_for": null,
                     *       "host": "alpha",
                     *       "created_by": "admin",
                     *       "rerun_of": null,
                     *       "created_at": "2026-11-23T16:20:00.123456Z",
                     *       "started_at": "2026-11-23T16:20:00.131007Z",
                     *       "exited_at": "2026-11-23T16:20:00.134211Z",
                     *       "finished_at": "2026-11-23T16:20:00.134930Z",
                     *       "exit_code": 0,
                     *       "signal": null,
                     *       "reason": null,
                     *       "leftovers_killed": 0,
                     *       "output": {
                     *         "bytes": 13,
                     *         "stdout_bytes": 13,
                     *         "stderr_bytes": 0,
                     *         "discarded_bytes": 0
                     *       },
                     *       "usage": {
                     *         "user_seconds": 0.001,
                     *         "system_seconds": 0.002,
                     *         "max_rss_bytes": 3596288
                     *       },
                     *       "args": [
                     *         "world"
                     *       ],
                     *       "env": {
                     *         "LANG": "C.UTF-8"
                     *       },
                     *       "script": "echo \"Hello, $1\"\n"
                     *     }
                     */
                    "application/json": components["schemas"]["Command"];
                };
            };
            /** @description The request is malformed */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is required */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unknown host name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is invalid */
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
            /** @description The database is unavailable */
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
    deleteCommand: {
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
            /** @description The request is malformed */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is required */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not found */
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
            /** @description Unknown host name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is invalid */
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
            /** @description The database is unavailable */
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
    attachToCommand: {
        parameters: {
            query?: {
                /** @description position in the merged output; absent: the present end */
                after?: number;
            };
            header?: never;
            path: {
                command_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description a WebSocket */
            101: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description The request is malformed */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is required */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not found */
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
            /** @description Unknown host name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is invalid */
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
            /** @description The database is unavailable */
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
    followEvents: {
        parameters: {
            query?: {
                /** @description position in the merged output; Last-Event-ID has precedence */
                after?: number;
            };
            header?: {
                /** @description id of the last event of a broken stream; the answer continues after it */
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
                    /**
                     * @example id: 0
                     *     event: status
                     *     data: {"id": "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55", "status": "running"}
                     *
                     *     id: 13
                     *     event: output
                     *     data: {"stream": "stdout", "position": 0, "stream_offset": 0, "text": "Hello, world\n"}
                     */
                    "text/event-stream": string;
                };
            };
            /** @description The request is malformed */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is required */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unknown host name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is invalid */
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
            /** @description The database is unavailable */
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
    getOutput: {
        parameters: {
            query?: {
                /** @description continue until the command is finished */
                follow?: boolean;
                /** @description in bytes */
                limit?: number;
                /** @description in bytes */
                offset?: number;
                stream?: "stdout" | "stderr" | "merged";
                /** @description N: the last N bytes; Nl: the last N lines */
                tail?: string;
            };
            header?: {
                /** @description bytes=FIRST-LAST, only for a finished command */
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
                    /** @description offset of the first byte */
                    "Output-Offset"?: number;
                    /** @description bytes stored at the start */
                    "Output-Size"?: number;
                    [name: string]: unknown;
                };
                content: {
                    /** @example Hello, world */
                    "application/octet-stream": string;
                    /** @example Hello, world */
                    "text/plain": string;
                };
            };
            /** @description a range */
            206: {
                headers: {
                    /** @description range of the answer, full size */
                    "Content-Range"?: string;
                    "Output-Complete"?: "true" | "false";
                    /** @description offset of the first byte */
                    "Output-Offset"?: number;
                    /** @description bytes stored at the start */
                    "Output-Size"?: number;
                    [name: string]: unknown;
                };
                content: {
                    /** @example Hello */
                    "application/octet-stream": string;
                    /** @example Hello */
                    "text/plain": string;
                };
            };
            /** @description The request is malformed */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is required */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The range is outside the output */
            416: {
                headers: {
                    /** @description range of the answer, full size */
                    "Content-Range"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unknown host name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is invalid */
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
            /** @description The database is unavailable */
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
    rerunCommand: {
        parameters: {
            query?: {
                /** @description seconds to wait for the command's end, at most 60 */
                wait?: number;
            };
            header?: {
                /** @description a repetition with the same key within a day creates no second command */
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
                    /** @description true if an earlier request created the command */
                    "Idempotent-Replayed"?: "true";
                    /** @description the command */
                    Location?: string;
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55",
                     *       "status": "queued",
                     *       "name": "greeting",
                     *       "labels": {
                     *         "team": "db"
                     *       },
                     *       "interpreter": [
                     *         "/bin/bash"
                     *       ],
                     *       "working_directory": null,
                     *       "stdin_bytes": 0,
                     *       "interactive": false,
                     *       "pty": null,
                     *       "timeout_seconds": 3600,
                     *       "queue_timeout_seconds": null,
                     *       "grace_seconds": 10,
                     *       "leftover_seconds": 2,
                     *       "output_limit_bytes": 10737418240,
                     *       "on_output_limit": "discard",
                     *       "limits": null,
                     *       "priority": 0,
                     *       "concurrency": null,
                     *       "waiting_for": null,
                     *       "host": null,
                     *       "created_by": "admin",
                     *       "rerun_of": "0199c0dd-02b1-7d2a-8c1f-5e0a9b7d3c11",
                     *       "created_at": "2026-11-23T16:20:00.123456Z",
                     *       "started_at": null,
                     *       "exited_at": null,
                     *       "finished_at": null,
                     *       "exit_code": null,
                     *       "signal": null,
                     *       "reason": null,
                     *       "leftovers_killed": 0,
                     *       "output": {
                     *         "bytes": 0,
                     *         "stdout_bytes": 0,
                     *         "stderr_bytes": 0,
                     *         "discarded_bytes": 0
                     *       },
                     *       "usage": {
                     *         "user_seconds": null,
                     *         "system_seconds": null,
                     *         "max_rss_bytes": null
                     *       },
                     *       "args": [
                     *         "world"
                     *       ],
                     *       "env": {
                     *         "LANG": "C.UTF-8"
                     *       },
                     *       "script": "echo \"Hello, $1\"\n"
                     *     }
                     */
                    "application/json": components["schemas"]["Command"];
                };
            };
            /** @description The request is malformed */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is required */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The concurrency key is busy */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The command created with this idempotency key was deleted */
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
            /** @description Unknown host name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is invalid */
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
            /** @description The database is unavailable */
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
    signalCommand: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                command_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["SignalBody"];
            };
        };
        responses: {
            /** @description the command */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55",
                     *       "status": "running",
                     *       "name": "greeting",
                     *       "labels": {
                     *         "team": "db"
                     *       },
                     *       "interpreter": [
                     *         "/bin/bash"
                     *       ],
                     *       "working_directory": null,
                     *       "stdin_bytes": 0,
                     *       "interactive": false,
                     *       "pty": null,
                     *       "timeout_seconds": 3600,
                     *       "queue_timeout_seconds": null,
                     *       "grace_seconds": 10,
                     *       "leftover_seconds": 2,
                     *       "output_limit_bytes": 10737418240,
                     *       "on_output_limit": "discard",
                     *       "limits": null,
                     *       "priority": 0,
                     *       "concurrency": null,
                     *       "waiting_for": null,
                     *       "host": "alpha",
                     *       "created_by": "admin",
                     *       "rerun_of": null,
                     *       "created_at": "2026-11-23T16:20:00.123456Z",
                     *       "started_at": "2026-11-23T16:20:00.131007Z",
                     *       "exited_at": null,
                     *       "finished_at": null,
                     *       "exit_code": null,
                     *       "signal": null,
                     *       "reason": null,
                     *       "leftovers_killed": 0,
                     *       "output": {
                     *         "bytes": 13,
                     *         "stdout_bytes": 13,
                     *         "stderr_bytes": 0,
                     *         "discarded_bytes": 0
                     *       },
                     *       "usage": {
                     *         "user_seconds": null,
                     *         "system_seconds": null,
                     *         "max_rss_bytes": null
                     *       },
                     *       "args": [
                     *         "world"
                     *       ],
                     *       "env": {
                     *         "LANG": "C.UTF-8"
                     *       },
                     *       "script": "echo \"Hello, $1\"\n"
                     *     }
                     */
                    "application/json": components["schemas"]["Command"];
                };
            };
            /** @description The request is malformed */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is required */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The command is not running */
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
            /** @description Unsupported content type */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unknown host name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is invalid */
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
            /** @description The database is unavailable */
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
    sendInput: {
        parameters: {
            query?: {
                /** @description end the input after these bytes; Ctrl-D on a terminal */
                close?: boolean;
                /** @description bytes accepted so far, as the last answer said: makes a retry send nothing twice */
                offset?: number;
            };
            header?: never;
            path: {
                command_id: string;
            };
            cookie?: never;
        };
        requestBody?: {
            content: {
                "application/octet-stream": string;
            };
        };
        responses: {
            /** @description given to the keeper */
            202: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "accepted_bytes": 4,
                     *       "offset": 4
                     *     }
                     */
                    "application/json": components["schemas"]["AcceptedInput"];
                };
            };
            /** @description The request is malformed */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is required */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not found */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The command takes no input */
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
            /** @description Unknown host name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is invalid */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too many requests */
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
            /** @description The database is unavailable */
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
    stopCommand: {
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
                    /**
                     * @example {
                     *       "id": "0199c0de-7f3a-7c41-9d0e-2b7f6f1c9a55",
                     *       "status": "stopping",
                     *       "name": "greeting",
                     *       "labels": {
                     *         "team": "db"
                     *       },
                     *       "interpreter": [
                     *         "/bin/bash"
                     *       ],
                     *       "working_directory": null,
                     *       "stdin_bytes": 0,
                     *       "interactive": false,
                     *       "pty": null,
                     *       "timeout_seconds": 3600,
                     *       "queue_timeout_seconds": null,
                     *       "grace_seconds": 10,
                     *       "leftover_seconds": 2,
                     *       "output_limit_bytes": 10737418240,
                     *       "on_output_limit": "discard",
                     *       "limits": null,
                     *       "priority": 0,
                     *       "concurrency": null,
                     *       "waiting_for": null,
                     *       "host": "alpha",
                     *       "created_by": "admin",
                     *       "rerun_of": null,
                     *       "created_at": "2026-11-23T16:20:00.123456Z",
                     *       "started_at": "2026-11-23T16:20:00.131007Z",
                     *       "exited_at": null,
                     *       "finished_at": null,
                     *       "exit_code": null,
                     *       "signal": null,
                     *       "reason": null,
                     *       "leftovers_killed": 0,
                     *       "output": {
                     *         "bytes": 13,
                     *         "stdout_bytes": 13,
                     *         "stderr_bytes": 0,
                     *         "discarded_bytes": 0
                     *       },
                     *       "usage": {
                     *         "user_seconds": null,
                     *         "system_seconds": null,
                     *         "max_rss_bytes": null
                     *       },
                     *       "args": [
                     *         "world"
                     *       ],
                     *       "env": {
                     *         "LANG": "C.UTF-8"
                     *       },
                     *       "script": "echo \"Hello, $1\"\n"
                     *     }
                     */
                    "application/json": components["schemas"]["Command"];
                };
            };
            /** @description The request is malformed */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is required */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Not found */
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
            /** @description Unsupported content type */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unknown host name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is invalid */
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
            /** @description The database is unavailable */
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
    listHosts: {
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
                    /**
                     * @example {
                     *       "items": [
                     *         {
                     *           "name": "alpha",
                     *           "status": "up",
                     *           "pool": "default",
                     *           "labels": {},
                     *           "running": 3,
                     *           "capacity": null,
                     *           "last_seen_at": "2026-11-23T16:20:00.123456Z",
                     *           "version": "0.1.0",
                     *           "keeper_pid": 812,
                     *           "child_pid": 815
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": components["schemas"]["HostList"];
                };
            };
            /** @description The request is malformed */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is required */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unknown host name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is invalid */
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
            /** @description The database is unavailable */
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
    getSession: {
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
                    /**
                     * @example {
                     *       "name": "admin",
                     *       "scope": "admin",
                     *       "csrf_token": "mZ4x0c"
                     *     }
                     */
                    "application/json": components["schemas"]["Session"];
                };
            };
            /** @description The request is malformed */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is required */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unknown host name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is invalid */
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
            /** @description The database is unavailable */
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
    signIn: {
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
                    /**
                     * @example {
                     *       "name": "admin",
                     *       "scope": "admin",
                     *       "csrf_token": "mZ4x0c"
                     *     }
                     */
                    "application/json": components["schemas"]["Session"];
                };
            };
            /** @description The request is malformed */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is required */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
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
            /** @description Unsupported content type */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unknown host name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is invalid */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Too many requests */
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
            /** @description The database is unavailable */
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
    signOut: {
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
            /** @description The request is malformed */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A token is required */
            401: {
                headers: {
                    "WWW-Authenticate"?: string;
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Forbidden */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description Unknown host name */
            421: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description The request is invalid */
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
            /** @description The database is unavailable */
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
