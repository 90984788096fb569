# What a worker that was taken over can do.
add_executable(bazil-attack EXCLUDE_FROM_ALL sandbox/attack.c sandbox/attacks.c)
target_link_libraries(bazil-attack PRIVATE supervisor-spawn)
set_property(GLOBAL APPEND PROPERTY BAZIL_TEST_TARGETS bazil-attack)
bazil_system_test(sandbox SCRIPT sandbox.py TIMEOUT 600)
