/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One lease, held by a process of its own, told what to do on standard input: the tests' hands.
 *
 *     lease_client NAME RESIDENT_BYTES BURST_BYTES MAX_WAIT_MS
 *
 * Lines in: ready, burst BYTES MAX_WAIT_MS, end, resize RESIDENT_BYTES BURST_BYTES, state. Each is
 * answered with one line: "ok", "granted ID", "state N", or "NO_ROOM free=… text" with the reason's
 * newlines as blanks. The end of the input releases the lease.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <brim/brim.h>

static void answer_error(int code, const brim_lease *lease)
{
    const struct brim_refusal *const refusal = lease ? brim_lease_refusal(lease) : NULL;

    printf("%s", brim_error_name(code));
    if (refusal) {
        printf(" free=%" PRIu64 " reserve=%" PRIu64 " ", refusal->free_bytes,
               refusal->reserve_bytes);
        for (const char *at = refusal->text; *at; at++)
            putchar(*at == '\n' ? ' ' : *at);
    }
    printf("\n");
}

static void answer(int code, const brim_lease *lease)
{
    if (code < 0)
        answer_error(code, lease);
    else
        printf("ok\n");
}

static void obey(char *line, brim_lease *lease)
{
    char *rest = NULL;
    const char *const verb = strtok_r(line, " \n", &rest);
    const char *const first = strtok_r(NULL, " \n", &rest);
    const char *const second = strtok_r(NULL, " \n", &rest);
    const uint64_t a = first ? strtoull(first, NULL, 10) : 0;
    const int64_t b = second ? strtoll(second, NULL, 10) : 0;

    if (!verb)
        return;
    if (strcmp(verb, "ready") == 0)
        answer(brim_ready(lease), lease);
    else if (strcmp(verb, "burst") == 0)
        answer(brim_burst_begin(lease, a, b), lease);
    else if (strcmp(verb, "end") == 0)
        answer(brim_burst_end(lease), lease);
    else if (strcmp(verb, "resize") == 0)
        answer(brim_resize(lease, a, (uint64_t)b), lease);
    else if (strcmp(verb, "state") == 0)
        printf("state %d\n", (int)brim_lease_state(lease));
    else
        printf("what? %s\n", verb);
}

int main(int argc, char **argv)
{
    char line[256];
    brim_lease *lease = NULL;

    if (argc != 5) {
        fprintf(stderr, "usage: lease_client NAME RESIDENT_BYTES BURST_BYTES MAX_WAIT_MS\n");
        return 2;
    }
    const struct brim_claim claim = {
        .struct_bytes = sizeof(claim),
        .name = argv[1],
        .resident_bytes = strtoull(argv[2], NULL, 10),
        .burst_bytes = strtoull(argv[3], NULL, 10),
        .max_wait_ms = strtoll(argv[4], NULL, 10),
    };
    const int r = brim_acquire(&claim, &lease);

    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (r < 0) {
        answer_error(r, lease);
        brim_release(lease);
        return 1;
    }
    printf("granted %" PRIu64 "\n", brim_lease_id(lease));
    while (fgets(line, sizeof(line), stdin))
        obey(line, lease);
    brim_release(lease);
    return 0;
}
