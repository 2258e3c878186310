/* SPDX-License-Identifier: Apache-2.0 */

/*
 * narrator: reads sentences aloud into WAV files, as a text-to-speech worker on a GPU does.
 *
 *     brim batch run … -- narrator [--log FILE]
 *     narrator --naive --list FILE --out DIR --stride K --offset I [--log FILE]
 *
 * It holds 5.2 GB of device memory for its model and takes up to 2.1 GB more for a segment, by its
 * length. As a worker of a batch it asks for those first. With --naive it is what people write
 * before they have that: it takes every K-th line of a list, allocates when it needs to, and ends
 * with status 3 when the card says no.
 */

#include "narrator.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <brim/brim.h>

#include "base/size.h"

#define EXIT_USAGE   2
#define EXIT_REFUSED 3

struct options {
    bool is_naive;
    const char *log, *list, *out;
    uint64_t model_bytes, work_bytes, stride, offset;
};

static int number_parse(const char *text, uint64_t *ret_number)
{
    char *end = NULL;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *text == '-')
        return -EINVAL;
    *ret_number = number;
    return 0;
}

static int option_apply(struct options *options, int option, const char *value)
{
    struct error err = { 0 };
    int r = 0;
    switch (option) {
    case 'n':
        options->is_naive = true;
        return 0;
    case 'l':
        options->log = value;
        return 0;
    case 'f':
        options->list = value;
        return 0;
    case 'o':
        options->out = value;
        return 0;
    case 'm':
        r = size_parse(value, &options->model_bytes, &err);
        break;
    case 'w':
        r = size_parse(value, &options->work_bytes, &err);
        break;
    case 's':
        r = number_parse(value, &options->stride);
        break;
    case 'i':
        r = number_parse(value, &options->offset);
        break;
    default:
        return -EINVAL;
    }
    if (r < 0)
        fprintf(stderr, "narrator: %s\n", err.code ? err.message : "a whole number is wanted");
    return r;
}

static int options_parse(int argc, char **argv, struct options *options)
{
    static const struct option known[] = {
        { "naive", no_argument, NULL, 'n' },
        { "log", required_argument, NULL, 'l' },
        { "list", required_argument, NULL, 'f' },
        { "out", required_argument, NULL, 'o' },
        { "model", required_argument, NULL, 'm' },
        { "work", required_argument, NULL, 'w' },
        { "stride", required_argument, NULL, 's' },
        { "offset", required_argument, NULL, 'i' },
        { NULL, 0, NULL, 0 },
    };
    int option;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (option_apply(options, option, optarg) < 0)
            return -EINVAL;
    }
    bool is_whole = !options->is_naive || (options->list && options->out && options->stride > 0);
    return optind == argc && is_whole ? 0 : -EINVAL;
}

/* The card said no, to a program that did not ask before. */
static int report_refusal(struct narrator *narrator, uint64_t segment)
{
    const uint64_t free_bytes = narrator->gpu ? gpu_refused_free_bytes(narrator->gpu) : 0;
    printf("{\"refused_at\": %" PRIu64 ", \"asked_bytes\": %" PRIu64 ", \"free_bytes\": %" PRIu64
           "}\n",
           segment, narrator->model.refused_bytes, free_bytes);
    return EXIT_REFUSED;
}

static int report_failure(const struct error *err)
{
    fprintf(stderr, "narrator: %s\n", err->message);
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    struct options options = { .model_bytes = NARRATOR_MODEL_BYTES,
                               .work_bytes = NARRATOR_WORK_BYTES };
    if (options_parse(argc, argv, &options) < 0) {
        fprintf(stderr, "usage: narrator [--log FILE] [--model SIZE] [--work SIZE]   (in a batch)\n"
                        "       narrator --naive --list FILE --out DIR --stride K --offset I …\n");
        return EXIT_USAGE;
    }
    struct narrator narrator = { .voice.fd = -1, .diary.fd = -1, .work_bytes = options.work_bytes };
    struct error err = { 0 };
    int status = EXIT_SUCCESS;
    int r = narrator_open(&narrator, options.log, options.model_bytes, &err);
    uint64_t segment = options.offset;
    if (r == 0 && options.is_naive) {
        struct naive_list list = { .path = options.list,
                                   .out = options.out,
                                   .stride = options.stride };
        r = naive_run(&narrator, &list, &segment, &err);
    } else if (r == 0) {
        r = worker_run(&narrator, &err);
    }
    if (r == GPU_REFUSED)
        status = report_refusal(&narrator, segment);
    else if (r < 0)
        status = report_failure(&err);
    narrator_close(&narrator);
    return status;
}
