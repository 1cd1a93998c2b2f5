/* launcher/completion/layers.h - what decoding saw in the layers, told: a line a token, a summary, fields
 * of --json. Of a completion with standard decoding nothing is said. */
#pragma once

#include "launcher/completion/completion.h"

/* "# token 3: selected layer 4/7, entropy=0.1234 nats (0.1780 bits, 2.1% of the most), token='...'" */
void cdp_layers_say_token(const cdp_completion *completion, int32_t token);

/* "# layers: 11.5% of 200 tokens left the last layer, those by 1.3 layers on average" */
void cdp_layers_say_summary(const cdp_completion *completion);

/* "decoding": .., "selected_layers": [..], "layer_entropies": [[..]], "all_layer_tokens": [[..]],
 * "all_layer_token_ids": [[..]], "generated_text": .., "generated_token_ids": [..], "generated_tokens": [..]
 * (their texts). Entropies in nats, with "entropy_top_k": N before them where they are of the N likeliest
 * tokens alone; null where a layer was not looked at. --cd-method consistency: "layer_cosines": [[..]], too.
 * Where no layers were kept, the first two alone. */
void cdp_write_layers(FILE *to, const cdp_completion *completion);

/* One token between quotes of JSON: its bytes, as far as they are characters; null without tokenizer. */
void cdp_write_token_text(FILE *to, const cdp_tokenizer *tokenizer, int32_t token);
