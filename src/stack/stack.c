/* SPDX-License-Identifier: Apache-2.0 */

#include "stack/stack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void stack_batch_init(struct stack_batch *batch)
{
    *batch = (struct stack_batch){
        .workers_min = 1,
        .workers_max = STACK_WORKER_MAX,
        .retries = STACK_RETRY_DEFAULT,
    };
}

static void free_list(char **list)
{
    for (size_t i = 0; list && list[i]; i++)
        free(list[i]);
    free(list);
}

void stack_batch_deinit(struct stack_batch *batch)
{
    free(batch->name);
    free_list(batch->command);
    free(batch->dir);
    free(batch->input_path);
    free(batch->output);
    free_list(batch->env);
    free(batch->gpu);
    *batch = (struct stack_batch){ 0 };
}

void stack_deinit(struct stack *stack)
{
    for (size_t i = 0; i < stack->batch_count; i++)
        stack_batch_deinit(&stack->batches[i]);
    free(stack->batches);
    *stack = (struct stack){ 0 };
}

const struct stack_batch *stack_find_batch(const struct stack *stack, const char *name)
{
    for (size_t i = 0; i < stack->batch_count; i++) {
        if (strcmp(stack->batches[i].name, name) == 0)
            return &stack->batches[i];
    }
    return NULL;
}

static int check_memory(const struct stack_batch *batch, struct error *err)
{
    uint64_t sum = 0;

    if (batch->resident_bytes == 0)
        return error_set(err, -EINVAL,
                         "batch '%s' does not say how much gpu memory a worker holds; write vram: "
                         "{ resident: 5.5GB } or --vram 5.5GB",
                         batch->name);
    if (__builtin_add_overflow(batch->resident_bytes, batch->burst_bytes, &sum))
        return error_set(err, -EINVAL, "batch '%s': resident and burst together are too large",
                         batch->name);
    if (batch->load_peak_bytes != 0 && batch->protocol == STACK_PROTOCOL_EACH)
        return error_set(err, -EINVAL,
                         "batch '%s': a process per segment has no load_peak apart; it holds "
                         "resident and burst while it works",
                         batch->name);
    if (batch->load_peak_bytes != 0 && batch->load_peak_bytes < batch->resident_bytes)
        return error_set(err, -EINVAL,
                         "batch '%s': load_peak is smaller than resident; it is the most while "
                         "loading, resident included",
                         batch->name);
    return 0;
}

static int check_paths(const struct stack_batch *batch, struct error *err)
{
    if (batch->input == STACK_INPUT_NONE || !batch->input_path)
        return error_set(err, -EINVAL,
                         "batch '%s' has no input; write input: { lines: FILE } (or jsonl, files), "
                         "or --lines FILE",
                         batch->name);
    if (!batch->output)
        return error_set(err, -EINVAL,
                         "batch '%s' has no output; write output: out/${SEGMENT}.wav, or "
                         "--out 'out/${SEGMENT}.wav'",
                         batch->name);
    if (!strstr(batch->output, "${SEGMENT}"))
        return error_set(err, -EINVAL,
                         "batch '%s': the output '%s' is the same for every segment; put "
                         "${SEGMENT} into it",
                         batch->name, batch->output);
    if (batch->output[strlen(batch->output) - 1] == '/')
        return error_set(err, -EINVAL,
                         "batch '%s': the output '%s' names a directory; each segment gets one "
                         "file: ${SEGMENT}.wav",
                         batch->name, batch->output);
    return 0;
}

int stack_batch_check(const struct stack_batch *batch, struct error *err)
{
    int r = 0;

    if (!batch->name)
        return error_set(err, -EINVAL, "the batch has no name; give it one with --name");
    r = stack_name_check(batch->name, err);
    if (r < 0)
        return r;
    if (!batch->command || !batch->command[0] || !*batch->command[0])
        return error_set(err, -EINVAL,
                         "batch '%s' has no command; write command: [program, argument], or put "
                         "it behind --",
                         batch->name);
    r = check_paths(batch, err);
    if (r < 0)
        return r;
    r = check_memory(batch, err);
    if (r < 0)
        return r;
    if (batch->workers_min < 1 || batch->workers_min > batch->workers_max ||
        batch->workers_max > STACK_WORKER_MAX)
        return error_set(err, -EINVAL, "batch '%s': workers must be 1 to %d", batch->name,
                         STACK_WORKER_MAX);
    if (batch->heartbeat_ms != 0 && batch->protocol == STACK_PROTOCOL_EACH)
        return error_set(err, -EINVAL,
                         "batch '%s': a process per segment has no protocol to send heartbeats "
                         "with; use timeout",
                         batch->name);
    return 0;
}
