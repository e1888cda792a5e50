/* rabbitmq-c (Debian: librabbitmq-dev). See README.md beside this file. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <amqp.h>
#include <amqp_tcp_socket.h>

enum { WINDOW = 10, PREFETCH = 20, PORTS_MAX = 16, TRIES_MAX = 300 };

static const struct timeval PATIENT = {30, 0};

static int ports[PORTS_MAX];
static int port_count;
static const char *queue;
static int count;
static int node;

static void die(const char *what) {
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static void pause_ms(long ms) {
    struct timespec span = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&span, NULL);
}

/* Connects to the first port that answers, and opens channel 1. */
static amqp_connection_state_t connect_somewhere(void) {
    for (int tries = 0; tries < TRIES_MAX; tries++) {
        amqp_connection_state_t connection = amqp_new_connection();
        amqp_socket_t *socket = amqp_tcp_socket_new(connection);
        struct timeval patience = PATIENT;
        amqp_set_handshake_timeout(connection, &patience);
        amqp_set_rpc_timeout(connection, &patience);
        if (amqp_socket_open(socket, "127.0.0.1", ports[node % port_count]) == AMQP_STATUS_OK &&
            amqp_login(connection, "/", 0, 131072, 60, AMQP_SASL_METHOD_PLAIN, "guest", "guest").reply_type ==
                AMQP_RESPONSE_NORMAL) {
            amqp_channel_open(connection, 1);
            if (amqp_get_rpc_reply(connection).reply_type == AMQP_RESPONSE_NORMAL) return connection;
        }
        amqp_destroy_connection(connection);
        node++;
        pause_ms(100);
    }
    die("no node answers");
    return NULL;
}

static int ok(amqp_connection_state_t connection) {
    return amqp_get_rpc_reply(connection).reply_type == AMQP_RESPONSE_NORMAL;
}

static int declare(amqp_connection_state_t connection) {
    amqp_table_entry_t entry = {amqp_cstring_bytes("x-max-length"), {AMQP_FIELD_KIND_I32, {.i32 = 1000000}}};
    amqp_table_t arguments = {1, &entry};
    amqp_queue_declare(connection, 1, amqp_cstring_bytes(queue), 0, 1, 0, 0, arguments);
    return ok(connection);
}

static int send_message(amqp_connection_state_t connection, const char *key, int mandatory, int number) {
    char body[16];
    snprintf(body, sizeof body, "%d", number);
    amqp_table_entry_t entry = {amqp_cstring_bytes("number"), {AMQP_FIELD_KIND_I32, {.i32 = number}}};
    amqp_basic_properties_t properties = {0};
    properties._flags = AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_HEADERS_FLAG;
    properties.delivery_mode = 2;
    properties.headers.num_entries = 1;
    properties.headers.entries = &entry;
    return amqp_basic_publish(connection, 1, amqp_empty_bytes, amqp_cstring_bytes(key), mandatory, 0, &properties,
                              amqp_cstring_bytes(body)) == AMQP_STATUS_OK;
}

/* Waits until the publishes `first` to `last` are confirmed; prints what comes back meanwhile. */
static int wait_confirmed(amqp_connection_state_t connection, uint64_t first, uint64_t last) {
    int waiting[WINDOW];
    int left = (int)(last - first) + 1;
    for (int i = 0; i < left; i++) waiting[i] = 1;
    while (left > 0) {
        amqp_frame_t frame;
        struct timeval patience = PATIENT;
        amqp_maybe_release_buffers(connection);
        if (amqp_simple_wait_frame_noblock(connection, &frame, &patience) != AMQP_STATUS_OK) return 0;
        if (frame.frame_type != AMQP_FRAME_METHOD) return 0;
        if (frame.payload.method.id == AMQP_BASIC_ACK_METHOD) {
            amqp_basic_ack_t *ack = frame.payload.method.decoded;
            if (ack->delivery_tag < first || ack->delivery_tag > last) die("confirm of nothing");
            uint64_t from = ack->multiple ? first : ack->delivery_tag;
            for (uint64_t tag = from; tag <= ack->delivery_tag; tag++) {
                left -= waiting[tag - first];
                waiting[tag - first] = 0;
            }
        } else if (frame.payload.method.id == AMQP_BASIC_RETURN_METHOD) {
            amqp_basic_return_t *returned = frame.payload.method.decoded;
            printf("returned %d %.*s\n", returned->reply_code, (int)returned->reply_text.len,
                   (char *)returned->reply_text.bytes);
            amqp_message_t message;
            if (amqp_read_message(connection, 1, &message, 0).reply_type != AMQP_RESPONSE_NORMAL) return 0;
            amqp_destroy_message(&message);
        } else {
            return 0;
        }
    }
    return 1;
}

static int ask_for_missing(amqp_connection_state_t connection) {
    char missing[300];
    snprintf(missing, sizeof missing, "%s-missing", queue);
    amqp_channel_open(connection, 2);
    if (!ok(connection)) return 0;
    amqp_queue_declare(connection, 2, amqp_cstring_bytes(missing), 1, 0, 0, 0, amqp_empty_table);
    amqp_rpc_reply_t reply = amqp_get_rpc_reply(connection);
    if (reply.reply_type != AMQP_RESPONSE_SERVER_EXCEPTION || reply.reply.id != AMQP_CHANNEL_CLOSE_METHOD) return 0;
    amqp_channel_close_t *closed = reply.reply.decoded;
    printf("missing %d %.*s\n", closed->reply_code, (int)closed->reply_text.len, (char *)closed->reply_text.bytes);
    amqp_channel_close_ok_t close_ok = {0};
    return amqp_send_method(connection, 2, AMQP_CHANNEL_CLOSE_OK_METHOD, &close_ok) == AMQP_STATUS_OK;
}

static int publish(amqp_connection_state_t connection) {
    static int done;
    static int told;
    uint64_t sent = 0;
    if (!declare(connection)) return 0;
    amqp_confirm_select(connection, 1);
    if (!ok(connection)) return 0;
    if (!told) {
        char missing[300];
        snprintf(missing, sizeof missing, "%s-missing", queue);
        if (!ask_for_missing(connection)) return 0;
        if (!send_message(connection, missing, 1, 0) || !wait_confirmed(connection, 1, 1)) return 0;
        sent = 1;
        told = 1;
    }
    while (done < count) {
        int last = done + WINDOW < count ? done + WINDOW : count;
        for (int number = done; number < last; number++) {
            if (!send_message(connection, queue, 0, number)) return 0;
        }
        uint64_t first = sent + 1;
        sent += (uint64_t)(last - done);
        if (!wait_confirmed(connection, first, sent)) return 0;
        done = last;
        if (done % 100 == 0) printf("confirmed %d\n", done);
    }
    return 1;
}

static int consume(amqp_connection_state_t connection) {
    static char *seen;
    static int received;
    if (seen == NULL) seen = calloc((size_t)count, 1);
    if (seen == NULL) die("out of memory");
    amqp_basic_qos(connection, 1, 0, PREFETCH, 0);
    if (!ok(connection) || !declare(connection)) return 0;
    amqp_basic_consume(connection, 1, amqp_cstring_bytes(queue), amqp_empty_bytes, 0, 0, 0, amqp_empty_table);
    if (!ok(connection)) return 0;
    while (received < count) {
        amqp_envelope_t envelope;
        struct timeval patience = PATIENT;
        amqp_maybe_release_buffers(connection);
        if (amqp_consume_message(connection, &envelope, &patience, 0).reply_type != AMQP_RESPONSE_NORMAL) return 0;
        char body[16] = {0};
        if (envelope.message.body.len >= sizeof body) die("body too long");
        memcpy(body, envelope.message.body.bytes, envelope.message.body.len);
        int number = atoi(body);
        amqp_table_t headers = envelope.message.properties.headers;
        if (number < 0 || number >= count || headers.num_entries != 1 || headers.entries[0].value.value.i32 != number)
            die("header");
        int acked = amqp_basic_ack(connection, 1, envelope.delivery_tag, 0) == AMQP_STATUS_OK;
        amqp_destroy_envelope(&envelope);
        if (!seen[number]) {
            seen[number] = 1;
            received++;
            if (received % 100 == 0) printf("received %d\n", received);
        }
        if (!acked) return received == count;
    }
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 5) die("usage: rabbitmq_c publish|consume PORTS QUEUE COUNT");
    for (char *port = strtok(argv[2], ","); port != NULL && port_count < PORTS_MAX; port = strtok(NULL, ","))
        ports[port_count++] = atoi(port);
    queue = argv[3];
    count = atoi(argv[4]);
    if (port_count == 0 || count <= 0) die("ports and a count are needed");
    setvbuf(stdout, NULL, _IOLBF, 0);
    int (*work)(amqp_connection_state_t) = strcmp(argv[1], "publish") == 0 ? publish : consume;
    for (;;) {
        amqp_connection_state_t connection = connect_somewhere();
        int through = work(connection);
        if (through) amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
        amqp_destroy_connection(connection);
        if (through) break;
        puts("reconnecting");
        node++;
    }
    puts("done");
    return 0;
}
