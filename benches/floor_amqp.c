/* The floor on RabbitMQ (DESIGN.md §5): what librabbitmq alone can do, as a plain client in C.
 *
 *     floor_amqp URL publish QUEUE COUNT transient|persistent CONFIRMED
 *     floor_amqp URL consume QUEUE COUNT PREFETCH
 *
 * `publish` sends messages that look like Celery's and waits for the broker's confirms after every
 * CONFIRMED of them; `consume` takes COUNT messages and acknowledges half a prefetch window at a
 * time. Both print messages per second; `consume` leaves out the first tenth, in which the window
 * fills. The queue must exist.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_tcp_socket.h>
#endif

enum { CHANNEL = 1, WARM_UP_SHARE = 10 };

static const char BODY[] = "[[], {}, {\"callbacks\": null, \"errbacks\": null, \"chain\": null, \"chord\": null}]";

static void fail(const char *what, int status) {
    fprintf(stderr, "floor_amqp: %s: %s\n", what, status < 0 ? amqp_error_string2(status) : "the broker refuses it");
    exit(1);
}

static void check(int status, const char *what) {
    if (status < 0) {
        fail(what, status);
    }
}

static void check_reply(amqp_rpc_reply_t reply, const char *what) {
    if (reply.reply_type != AMQP_RESPONSE_NORMAL) {
        fail(what, reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION ? reply.library_error : 0);
    }
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static amqp_connection_state_t log_in(char *url) {
    amqp_connection_state_t connection = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(connection);
    struct amqp_connection_info info;
    check(amqp_parse_url(url, &info), "the URL");
    check(amqp_socket_open(socket, info.host, info.port), "connecting");
    check_reply(amqp_login(connection, info.vhost, 0, AMQP_DEFAULT_FRAME_SIZE, 0, AMQP_SASL_METHOD_PLAIN,
                           info.user, info.password), "logging in");
    amqp_channel_open(connection, CHANNEL);
    check_reply(amqp_get_rpc_reply(connection), "channel.open");
    return connection;
}

static amqp_table_entry_t entry(const char *key, uint8_t kind, const char *text) {
    amqp_table_entry_t made;
    memset(&made, 0, sizeof made);
    made.key = amqp_cstring_bytes(key);
    made.value.kind = kind;
    if (kind == AMQP_FIELD_KIND_UTF8) {
        made.value.value.bytes = amqp_cstring_bytes(text);
    }
    return made;
}

/* Wait until *confirmed* messages are. */
static void await_confirms(amqp_connection_state_t connection, uint64_t *seen, uint64_t confirmed) {
    while (*seen < confirmed) {
        amqp_frame_t frame;
        amqp_basic_ack_t *ack;
        check(amqp_simple_wait_frame(connection, &frame), "waiting for confirms");
        if (frame.frame_type != AMQP_FRAME_METHOD || frame.payload.method.id != AMQP_BASIC_ACK_METHOD) {
            fail("something else than a confirm has come", 0);
        }
        ack = frame.payload.method.decoded;
        /* RabbitMQ confirms out of order only when a queue stores some later than others: here is one queue. */
        *seen = ack->delivery_tag;
        amqp_maybe_release_buffers_on_channel(connection, CHANNEL);
    }
}

static double publish(amqp_connection_state_t connection, const char *queue, long count, int delivery_mode,
                      long confirmed) {
    char id[37];
    uint64_t seen = 0;
    amqp_basic_properties_t properties;
    /* What Celery sends with a task; the two None of timelimit are an array of its own. */
    amqp_field_value_t limits[2];
    amqp_table_entry_t headers[] = {
        entry("lang", AMQP_FIELD_KIND_UTF8, "py"),
        entry("task", AMQP_FIELD_KIND_UTF8, "benches.noop"),
        entry("id", AMQP_FIELD_KIND_UTF8, ""),
        entry("shadow", AMQP_FIELD_KIND_VOID, NULL),
        entry("eta", AMQP_FIELD_KIND_VOID, NULL),
        entry("expires", AMQP_FIELD_KIND_VOID, NULL),
        entry("group", AMQP_FIELD_KIND_VOID, NULL),
        entry("group_index", AMQP_FIELD_KIND_VOID, NULL),
        entry("retries", AMQP_FIELD_KIND_I32, NULL),
        entry("timelimit", AMQP_FIELD_KIND_ARRAY, NULL),
        entry("root_id", AMQP_FIELD_KIND_UTF8, ""),
        entry("parent_id", AMQP_FIELD_KIND_VOID, NULL),
        entry("argsrepr", AMQP_FIELD_KIND_UTF8, "()"),
        entry("kwargsrepr", AMQP_FIELD_KIND_UTF8, "{}"),
        entry("origin", AMQP_FIELD_KIND_UTF8, "gen1000@bench"),
        entry("ignore_result", AMQP_FIELD_KIND_BOOLEAN, NULL),
        entry("replaced_task_nesting", AMQP_FIELD_KIND_I32, NULL),
        entry("stamped_headers", AMQP_FIELD_KIND_VOID, NULL),
        entry("stamps", AMQP_FIELD_KIND_TABLE, NULL),
    };
    enum { ID = 2, TIMELIMIT = 9, ROOT_ID = 10 };
    double start;
    memset(limits, 0, sizeof limits);
    limits[0].kind = limits[1].kind = AMQP_FIELD_KIND_VOID;
    headers[TIMELIMIT].value.value.array.num_entries = 2;
    headers[TIMELIMIT].value.value.array.entries = limits;
    memset(&properties, 0, sizeof properties);
    properties._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CONTENT_ENCODING_FLAG | AMQP_BASIC_HEADERS_FLAG |
                        AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG;
    properties.content_type = amqp_cstring_bytes("application/json");
    properties.content_encoding = amqp_cstring_bytes("utf-8");
    properties.headers.num_entries = sizeof headers / sizeof headers[0];
    properties.headers.entries = headers;
    properties.delivery_mode = (uint8_t) delivery_mode;
    amqp_confirm_select(connection, CHANNEL);
    check_reply(amqp_get_rpc_reply(connection), "confirm.select");
    start = seconds();
    for (long sent = 0; sent < count; sent++) {
        snprintf(id, sizeof id, "%08x-0000-4000-8000-000000000000", (unsigned) sent);
        headers[ID].value.value.bytes = headers[ROOT_ID].value.value.bytes = amqp_cstring_bytes(id);
        properties.correlation_id = amqp_cstring_bytes(id);
        check(amqp_basic_publish(connection, CHANNEL, amqp_empty_bytes, amqp_cstring_bytes(queue), 1, 0, &properties,
                                 amqp_cstring_bytes(BODY)), "basic.publish");
        if ((sent + 1) % confirmed == 0 || sent + 1 == count) {
            await_confirms(connection, &seen, (uint64_t) sent + 1);
        }
    }
    return (double) count / (seconds() - start);
}

static double consume(amqp_connection_state_t connection, const char *queue, long count, long prefetch) {
    /* Half a window: the broker can fill one half while the other one is worked on. */
    long gathered = prefetch > 1 ? prefetch / 2 : 1;
    long warm_up = count / WARM_UP_SHARE;
    double start = 0;
    amqp_basic_qos(connection, CHANNEL, 0, (uint16_t) prefetch, 0);
    check_reply(amqp_get_rpc_reply(connection), "basic.qos");
    amqp_basic_consume(connection, CHANNEL, amqp_cstring_bytes(queue), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
    check_reply(amqp_get_rpc_reply(connection), "basic.consume");
    for (long taken = 1; taken <= count; taken++) {
        amqp_envelope_t envelope;
        amqp_maybe_release_buffers(connection);
        check_reply(amqp_consume_message(connection, &envelope, NULL, 0), "basic.deliver");
        if (taken % gathered == 0 || taken == count) {
            check(amqp_basic_ack(connection, CHANNEL, envelope.delivery_tag, 1), "basic.ack");
        }
        amqp_destroy_envelope(&envelope);
        if (taken == warm_up) {
            start = seconds();
        }
    }
    return (double) (count - warm_up) / (seconds() - start);
}

int main(int argc, char **argv) {
    amqp_connection_state_t connection;
    double rate;
    int publishes = argc == 7 && strcmp(argv[2], "publish") == 0;
    if (!publishes && !(argc == 6 && strcmp(argv[2], "consume") == 0)) {
        fprintf(stderr, "usage: floor_amqp URL publish QUEUE COUNT transient|persistent CONFIRMED\n"
                        "       floor_amqp URL consume QUEUE COUNT PREFETCH\n");
        return 2;
    }
    connection = log_in(argv[1]);
    if (publishes) {
        rate = publish(connection, argv[3], atol(argv[4]), strcmp(argv[5], "persistent") == 0 ? 2 : 1, atol(argv[6]));
    } else {
        rate = consume(connection, argv[3], atol(argv[4]), atol(argv[5]));
    }
    printf("%.1f\n", rate);
    amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(connection);
    return 0;
}
