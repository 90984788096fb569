# POSIX: the conformance suite and the model-based test, on mounts of an ordinary user and of root.
bazil_system_test(posix SCRIPT posix_mount.py TIMEOUT 1500)
bazil_system_test(model SCRIPT model_mount.py TIMEOUT 600)
bazil_system_test(stream SCRIPT stream_mount.py TIMEOUT 600)
bazil_system_test(small_files SCRIPT small_files.py TIMEOUT 600)
