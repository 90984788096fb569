/* Whatever parses must be what emit writes, byte for byte; also as a key and as knowledge. */
#include "tree/knowledge.h"
#include "tree/record.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tree_record rec;
	struct tree_knowledge known = { 0 };
	struct tree_key key;
	uint8_t *out = malloc(size + 1), packed[TREE_KEY_SIZE];

	if (!out)
		abort();
	if (tree_record_parse(data, size, &rec) == 0) {
		if (tree_record_emit(&rec, out, size) != (int)size || memcmp(out, data, size) != 0)
			abort();
	}
	if (tree_knowledge_decode(&known, data, size) == 0) {
		if (tree_knowledge_encode(&known, out, size) != (int)size ||
			memcmp(out, data, size) != 0)
			abort();
	}
	if (size >= TREE_KEY_SIZE && tree_key_unpack(data, &key) == 0) {
		tree_key_pack(&key, packed);
		if (memcmp(packed, data, TREE_KEY_SIZE) != 0)
			abort();
	}
	tree_knowledge_release(&known);
	free(out);
	return 0;
}
