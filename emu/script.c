/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a test orders: by options when the command starts, at a time (--at), or while it runs
 * (brim emulate --control). One order is one line of words:
 *
 *   fail NAME N CODE        the N-th call of NAME from now on answers CODE
 *   fail-from NAME N CODE   that one and all after it
 *   hang NAME N             the N-th call does not return before `clear`
 *   clear                   no rule any more; what hangs goes on, what recurs ends
 *   lost GPU                the gpu has fallen off the bus;  found GPU: it is back
 *   hog GPU SIZE [TIME]     a foreign process takes that much (for so long);  unhog GPU: all end
 *   bandwidth profile       copies take as long as on the cards;  bandwidth off: no time
 *   bandwidth GPU HOST DEVICE  the same by numbers, in 10^9 bytes a second
 *   free-lag TIME           what ends from now on gives its memory back that late
 *   at TIME ORDER           the order, then;  every TIME ORDER: now, and again after each TIME
 *   hazards kill            what a real driver crashes at is killed;  hazards report: only told
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/size.h"
#include "server.h"

#define WORD_MAX           4
#define BANDWIDTH_MAX_GBPS 100000

static void set_bandwidth(struct server *server, uint32_t gpu, uint32_t host_gbps,
                          uint32_t device_gbps)
{
    atomic_store(&server->orders->host_gbps[gpu], host_gbps);
    atomic_store(&server->orders->device_gbps[gpu], device_gbps);
}

/* As fast as the cards, or as fast as this machine can. */
static void use_profiles(struct server *server, bool is_slow)
{
    for (uint32_t i = 0; i < server->card_count; i++)
        set_bandwidth(server, i, is_slow ? server->cards[i].host_gbps : 0,
                      is_slow ? server->cards[i].device_gbps : 0);
    server->options.is_checkpoint_timed = is_slow;
}

int script_open(struct server *server, struct error *err)
{
    server->orders_fd = memfd_create("brim-emulated-orders", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (server->orders_fd < 0 || ftruncate(server->orders_fd, sizeof(*server->orders)) < 0 ||
        fcntl(server->orders_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
        return error_set(err, -errno, "the emulator's orders: %s", strerror(errno));
    void *const page = mmap(NULL, sizeof(*server->orders), PROT_READ | PROT_WRITE, MAP_SHARED,
                            server->orders_fd, 0);
    if (page == MAP_FAILED)
        return error_set(err, -errno, "the emulator's orders: %s", strerror(errno));
    server->orders = page;
    server->orders->modes = server->options.modes;
    if (server->options.is_slow)
        use_profiles(server, true);
    return 0;
}

void script_close(struct server *server)
{
    if (server->orders)
        (void)munmap(server->orders, sizeof(*server->orders));
    server->orders = NULL;
    fd_close(&server->orders_fd);
}

static int number_parse(const char *text, long long least, long long most, long long *ret_number)
{
    char *end = NULL;

    errno = 0;
    const long long number = text ? strtoll(text, &end, 10) : 0;
    if (!text || errno != 0 || end == text || *end != '\0' || number < least || number > most)
        return -EINVAL;
    *ret_number = number;
    return 0;
}

static int order_rule(struct server *server, enum emu_rule_kind kind, char *words[WORD_MAX],
                      struct error *err)
{
    struct emu_orders *const orders = server->orders;
    const uint32_t count = atomic_load(&orders->rule_count);
    long long nth = 0, code = 0;

    if (!words[1] || strlen(words[1]) >= EMU_NAME_BYTES ||
        number_parse(words[2], 1, LLONG_MAX, &nth) < 0 ||
        (kind != EMU_RULE_HANG && number_parse(words[3], 1, INT_MAX, &code) < 0))
        return error_set(err, -EINVAL,
                         "write it like: fail cuMemCreate 3 2, or: hang "
                         "nvmlDeviceGetMemoryInfo 1");
    if (count == EMU_RULE_MAX)
        return error_set(err, -ENOSPC, "at most %d rules; `clear` takes them away", EMU_RULE_MAX);
    struct emu_rule *const rule = &orders->rules[count];
    (void)snprintf(rule->name, sizeof(rule->name), "%s", words[1]);
    rule->kind = kind;
    rule->code = (int32_t)code;
    atomic_store(&rule->calls_left, nth);
    atomic_store_explicit(&orders->rule_count, count + 1, memory_order_release);
    return 0;
}

static void clear_rules(struct server *server)
{
    atomic_store(&server->orders->rule_count, 0);
    (void)atomic_fetch_add(&server->orders->generation, 1);
    (void)syscall(SYS_futex, &server->orders->generation, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static int order_gpu(struct server *server, char *words[WORD_MAX], struct error *err)
{
    struct error why = { 0 };
    long long gpu = 0;
    uint64_t bytes = 0, time_ms = 0;

    if (number_parse(words[1], 0, (long long)server->card_count - 1, &gpu) < 0)
        return error_set(err, -EINVAL, "%s: name a gpu by its number, like: %s 0", words[0],
                         words[0]);
    const uint32_t bit = UINT32_C(1) << gpu;
    if (strcmp(words[0], "lost") == 0)
        (void)atomic_fetch_or(&server->orders->lost_gpus, bit);
    else if (strcmp(words[0], "found") == 0)
        (void)atomic_fetch_and(&server->orders->lost_gpus, ~bit);
    else if (strcmp(words[0], "unhog") == 0)
        tree_end_hogs(server, (uint32_t)gpu);
    else if (!words[2] || size_parse(words[2], &bytes, &why) < 0 ||
             (words[3] && (duration_parse(words[3], &time_ms, &why) < 0 || time_ms == 0)))
        return error_set(err, -EINVAL,
                         "hog: write how much it takes, and how long, like: hog 0 2GiB 500ms");
    else
        return tree_start_hog(server, (uint32_t)gpu, bytes, words[3] ? time_ms : CLOCK_NEVER_MS,
                              err);
    return 0;
}

static int order_bandwidth(struct server *server, char *words[WORD_MAX], struct error *err)
{
    const bool is_off = words[1] && strcmp(words[1], "off") == 0;
    long long gpu = 0, host_gbps = 0, device_gbps = 0;

    if (is_off || (words[1] && strcmp(words[1], "profile") == 0)) {
        use_profiles(server, !is_off);
        return 0;
    }
    if (number_parse(words[1], 0, (long long)server->card_count - 1, &gpu) < 0 ||
        number_parse(words[2], 0, BANDWIDTH_MAX_GBPS, &host_gbps) < 0 ||
        number_parse(words[3], 0, BANDWIDTH_MAX_GBPS, &device_gbps) < 0)
        return error_set(err, -EINVAL,
                         "write it like: bandwidth profile, bandwidth off, or: bandwidth 0 25 500");
    set_bandwidth(server, (uint32_t)gpu, (uint32_t)host_gbps, (uint32_t)device_gbps);
    return 0;
}

static int order_free_lag(struct server *server, const char *time, struct error *err)
{
    struct error why = { 0 };

    if (!time || duration_parse(time, &server->options.free_lag_ms, &why) < 0)
        return error_set(err, -EINVAL, "write it like: free-lag 500ms");
    return 0;
}

/* WORD TIME ORDER…, where the order may have any number of words. */
static int order_timed(struct server *server, const char *text, bool is_every, struct error *err)
{
    char word[16] = "", time[32] = "";
    struct error why = { 0 };
    uint64_t time_ms = 0;
    int used = 0;

    if (sscanf(text, "%15s %31s %n", word, time, &used) != 2 || used == 0 || text[used] == '\0' ||
        duration_parse(time, &time_ms, &why) < 0 || (is_every && time_ms == 0))
        return error_set(err, -EINVAL,
                         "write it like: at 2s hog 0 4GiB, or: every 2s hog 0 4GiB 500ms");
    if (script_check(text + used, err) < 0)
        return -EINVAL;
    return schedule_add(server, clock_after_ms(clock_now_ms(), is_every ? 0 : time_ms),
                        is_every ? time_ms : 0, text + used, err);
}

static int order_hazards(struct server *server, const char *what, struct error *err)
{
    if (!what || (strcmp(what, "kill") != 0 && strcmp(what, "report") != 0))
        return error_set(err, -EINVAL, "write it like: hazards kill, or: hazards report");
    server->is_killing_faults = strcmp(what, "kill") == 0;
    return 0;
}

int script_check(const char *order, struct error *err)
{
    static const char *const known[] = { "fail",     "fail-from", "hang",  "clear",   "lost",
                                         "found",    "hog",       "unhog", "hazards", "bandwidth",
                                         "free-lag", "at",        "every" };
    const char *const first = order + strspn(order, " ");
    const size_t length = strcspn(first, " ");

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strlen(known[i]) == length && strncmp(first, known[i], length) == 0)
            return 0;
    }
    return error_set(err, -EINVAL,
                     "no such order; there are fail, fail-from, hang, clear, lost, found, hog, "
                     "unhog, hazards, bandwidth, free-lag, at and every");
}

int script_obey(struct server *server, const char *order, struct error *err)
{
    char text[EMU_TEXT_BYTES], *rest = text, *words[WORD_MAX] = { NULL };

    (void)snprintf(text, sizeof(text), "%s", order);
    for (int i = 0; i < WORD_MAX; i++)
        words[i] = strtok_r(rest, " ", &rest);
    if (!words[0])
        return error_set(err, -EINVAL, "an empty order");
    if (strcmp(words[0], "fail") == 0)
        return order_rule(server, EMU_RULE_FAIL, words, err);
    if (strcmp(words[0], "fail-from") == 0)
        return order_rule(server, EMU_RULE_FAIL_FROM, words, err);
    if (strcmp(words[0], "hang") == 0)
        return order_rule(server, EMU_RULE_HANG, words, err);
    if (strcmp(words[0], "lost") == 0 || strcmp(words[0], "found") == 0 ||
        strcmp(words[0], "hog") == 0 || strcmp(words[0], "unhog") == 0)
        return order_gpu(server, words, err);
    if (strcmp(words[0], "hazards") == 0)
        return order_hazards(server, words[1], err);
    if (strcmp(words[0], "bandwidth") == 0)
        return order_bandwidth(server, words, err);
    if (strcmp(words[0], "free-lag") == 0)
        return order_free_lag(server, words[1], err);
    if (strcmp(words[0], "at") == 0 || strcmp(words[0], "every") == 0)
        return order_timed(server, order, words[0][0] == 'e', err);
    if (strcmp(words[0], "clear") == 0) {
        clear_rules(server);
        schedule_clear(server);
        return 0;
    }
    return script_check(words[0], err);
}
