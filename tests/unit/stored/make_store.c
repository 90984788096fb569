/* Makes the test data of the present format (HACKING.md, Formats): says where it is, and what. */
#include "sample.h"

#include "stored/engine.h"

#include <inttypes.h>
#include <stdio.h>

int main(void)
{
	struct rig rig = { 0 };
	struct sample sample;

	sample_make(&rig, &sample);
	printf("format %d in %s\nnow 0x%016" PRIx64 "\nat %" PRIu64 ": 0x%016" PRIx64 "\n",
		ENGINE_FORMAT, rig.path, sample.now, sample.at, sample.then);
	return 0;
}
