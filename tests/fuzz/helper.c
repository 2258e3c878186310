/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The packets of brim-helper, as brimd checks them before it believes a figure. The input is a
 * row of packets, each with its length before it; what passes is told with texts that end and with
 * no more processes than fit.
 */

/* Its check is static, and should be. */
#include "daemon/helper.c" /* NOLINT(bugprone-suspicious-include) */

#include "fuzz.h"

static void on_gpu(void *user, const struct facts_gpu *gpu)
{
    uint64_t *const sum = user;

    FUZZ_MUST(memchr(gpu->uuid, '\0', sizeof(gpu->uuid)));
    FUZZ_MUST(memchr(gpu->name, '\0', sizeof(gpu->name)));
    FUZZ_MUST(gpu->process_count <= FACTS_PROCESS_MAX);
    for (uint32_t i = 0; i < gpu->process_count; i++)
        *sum += gpu->processes[i].used_bytes;
}

static void on_end(void *user, const struct facts_end *end)
{
    (void)user;
    FUZZ_MUST(memchr(end->problem, '\0', sizeof(end->problem)));
    FUZZ_MUST(memchr(end->driver_version, '\0', sizeof(end->driver_version)));
}

/* Only its clock is needed, and is not turned: nothing of it outlives an input. */
static uv_loop_t *loop_without_turns(void)
{
    static uv_loop_t loop;
    static bool is_open;

    if (!is_open)
        FUZZ_MUST(uv_loop_init(&loop) == 0);
    is_open = true;
    return &loop;
}

void fuzz_one(const uint8_t *bytes, size_t byte_count)
{
    static struct helper helper; /* 17 kB: what a packet has changed is put back, not all of it */
    struct fuzz_input input = { bytes, byte_count };
    uint64_t sum = 0;

    (void)uv_timer_init(loop_without_turns(), &helper.timer);
    helper.events = (struct helper_events){ .user = &sum, .on_gpu = on_gpu, .on_end = on_end };
    while (input.left > 0) {
        const size_t packet_bytes = fuzz_u16(&input) % (sizeof(helper.packet) + 1);
        helper.state = HELPER_ASKED;
        helper.seq = 1;
        const size_t given_bytes = fuzz_some(&input, &helper.packet, packet_bytes);
        const bool is_taken = take_packet(&helper, given_bytes);
        memset(&helper.packet, 0, given_bytes);
        if (!is_taken)
            break;
    }
    (void)uv_timer_stop(&helper.timer);
}
